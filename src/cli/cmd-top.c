/* berth top: all applications, live. It asks berthd again and again, shows rates between two
 * answers, and leaves the terminal as it found it, however it ends. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/terminal.h"
#include "cli/top-table.h"

#define INTERVAL_MS     1000
#define INTERVAL_MS_MIN 100
#define NAME_WIDTH_MIN  12

static const char help[] =
    "usage: berth top [--interval SECONDS] [--once] [--json]\n"
    "\n"
    "Shows all applications, live: state, workers, open connections, connections and refusals a "
    "second,\n"
    "connections that wait, memory, processor time (100 is one processor) and age.\n"
    "\n"
    "  --interval SECONDS   how often (default 1)\n"
    "  --once               one table, measured over one interval, and no more; so it is without a "
    "terminal\n"
    "  --json               one JSON object an interval\n"
    "\n"
    "Keys: q ends; the letters in the table's head sort, as do the arrows left and right; r turns "
    "the\n"
    "order round; up and down scroll; the blank measures at once.\n";

/* A column: its letter sorts by it, and stands in its title. */
static const struct column {
    const char *title;
    int width; /* negative: to the left; 0: what is left */
    char letter;
} columns[TOP_KEY_COUNT] = {
    [TOP_NAME] = {"NAME", 0, 'n'},       [TOP_STATE] = {"STATE", -9, 's'},
    [TOP_WORKERS] = {"WORKERS", 7, 'w'}, [TOP_OPEN] = {"OPEN", 6, 'o'},
    [TOP_RATE] = {"CONN/S", 7, 'c'},     [TOP_WAITING] = {"QUEUE", 6, 'u'},
    [TOP_REFUSED] = {"REF/S", 6, 'f'},   [TOP_MEMORY] = {"MEMORY", 6, 'm'},
    [TOP_CPU] = {"CPU%", 5, 'p'},        [TOP_AGE] = {"AGE", 6, 'a'},
};

struct top {
    bool once, json;
    int interval_ms;
    int daemon;              /* owned; -EBADF: to be connected */
    struct top_table before; /* no rows: none yet */
    struct top_table now;
    char trouble[256]; /* why there is nothing new */
    enum top_key key;
    bool reverse;
    size_t scroll;
};

static double clock_ms(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int interval_parse(const char *text, int *ret_ms)
{
    char *end;
    double s = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || !(s * 1000 >= INTERVAL_MS_MIN && s <= 3600))
        return cli_usage("top", "--interval takes seconds, from 0.1 to 3600");
    *ret_ms = (int)(s * 1000);
    return CLI_OK;
}

static int options_read(int argc, char **argv, struct top *t)
{
    int status = CLI_OK;
    for (int i = 1; i < argc && status == CLI_OK; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(help, stdout);
            exit(CLI_OK);
        }
        if (strcmp(argv[i], "--once") == 0)
            t->once = true;
        else if (strcmp(argv[i], "--json") == 0)
            t->json = true;
        else if (strcmp(argv[i], "--interval") == 0)
            status = interval_parse(argv[++i], &t->interval_ms);
        else
            status = cli_usage("top", "unexpected argument '%s'", argv[i]);
    }
    return status;
}

static int report_read(struct top *t, const char *text, struct top_table *ret_table)
{
    json_t *list = text ? json_loads(text, 0, NULL) : NULL;
    int r = list ? top_read(list, clock_ms(CLOCK_MONOTONIC), clock_ms(CLOCK_REALTIME), ret_table)
                 : -EPROTO;
    json_decref(list);
    if (r < 0)
        (void)snprintf(t->trouble, sizeof t->trouble, "berthd's answer makes no sense: %s",
                       strerror(-r));
    return r;
}

/* A new table in t->now, or a sentence in t->trouble. A berthd that is being replaced is asked
 * again the next time. */
static int refresh(struct top *t)
{
    char *text = NULL;
    struct top_table fresh;
    if (t->daemon < 0)
        t->daemon = daemon_connect(false);
    int r = t->daemon;
    if (r >= 0)
        r = daemon_command(t->daemon, (const char *[]){"list", NULL}, -EBADF, NULL, &text);
    if (r < 0) {
        (void)snprintf(t->trouble, sizeof t->trouble, "%s%s",
                       r == -ENOENT ? "no berthd runs" : "berthd cannot be asked: ",
                       r == -ENOENT ? ""
                       : text       ? text
                                    : strerror(-r));
        t->daemon = fd_close(t->daemon);
    } else {
        t->trouble[0] = 0;
        r = report_read(t, text, &fresh);
    }
    free(text);
    if (r < 0)
        return r;
    top_free(&t->before);
    t->before = t->now;
    t->now = fresh;
    if (t->before.rows)
        top_rates(&t->now, &t->before);
    return 0;
}

static void cell_print(FILE *f, enum top_key key, int name_width, const char *text)
{
    int width = columns[key].width;
    if (width == 0)
        (void)fprintf(f, "%-*.*s", name_width, name_width, text);
    else
        (void)fprintf(f, " %*s", width, text);
}

static void row_print(FILE *f, const struct top_row *r, int name_width)
{
    char buf[TOP_TEXT_MAX];
    for (int k = 0; k < TOP_KEY_COUNT; k++)
        cell_print(f, (enum top_key)k, name_width, top_text(r, (enum top_key)k, buf));
}

static int name_width(unsigned columns_wide)
{
    int width = (int)columns_wide;
    for (int k = 0; k < TOP_KEY_COUNT; k++)
        width -= columns[k].width ? abs(columns[k].width) + 1 : 0;
    return width < NAME_WIDTH_MIN ? NAME_WIDTH_MIN : width > TOP_NAME_MAX ? TOP_NAME_MAX : width;
}

static void table_print(struct top *t)
{
    top_sort(&t->now, t->key, t->reverse);
    for (int k = 0; k < TOP_KEY_COUNT; k++)
        cell_print(stdout, (enum top_key)k, 20, columns[k].title);
    (void)putchar('\n');
    for (size_t i = 0; i < t->now.count; i++) {
        row_print(stdout, &t->now.rows[i], 20);
        (void)putchar('\n');
    }
    row_print(stdout, &t->now.total, 20);
    (void)putchar('\n');
}

/* The column that sorts is bold. */
static void head_print(FILE *f, const struct top *t, int width)
{
    (void)fputs("\033[7m", f);
    for (int k = 0; k < TOP_KEY_COUNT; k++) {
        (void)fputs((enum top_key)k == t->key ? "\033[1m" : "", f);
        cell_print(f, (enum top_key)k, width, columns[k].title);
        (void)fputs("\033[22m", f);
    }
    (void)fputs("\033[0m\033[K\r\n", f);
}

/* One write, so that the screen does not flicker. */
static void screen_draw(struct top *t)
{
    unsigned rows, wide;
    char *text = NULL;
    size_t n = 0;
    terminal_size(&rows, &wide);
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return;
    int width = name_width(wide);
    size_t room = rows > 4 ? rows - 4 : 1;
    size_t last = t->now.count > room ? t->now.count - room : 0;
    t->scroll = t->scroll < last ? t->scroll : last;
    top_sort(&t->now, t->key, t->reverse);
    /* Lines that are too long are cut by the terminal, not wrapped. */
    (void)fprintf(f, "\033[?7l\033[Hberth top: %zu applications  %s\033[K\r\n", t->now.count,
                  t->trouble);
    head_print(f, t, width);
    for (size_t i = t->scroll; i < t->now.count && i < t->scroll + room; i++) {
        row_print(f, &t->now.rows[i], width);
        (void)fputs("\033[K\r\n", f);
    }
    (void)fputs("\033[1m", f);
    row_print(f, &t->now.total, width);
    (void)fputs("\033[0m\033[K\r\n\033[2mq quit  n s w o c u f m p a sort  r reverse\033[0m\033[K"
                "\033[J\033[?7h",
                f);
    if (fclose(f) == 0 && text) {
        ssize_t wrote = write(STDOUT_FILENO, text, n);
        (void)wrote;
    }
    free(text);
}

/* False when it is the end. */
static bool key_handle(struct top *t, int key, bool *ret_now)
{
    if (key == 'q' || key == KEY_END)
        return false;
    if (key == 'r')
        t->reverse = !t->reverse;
    else if (key == KEY_DOWN)
        t->scroll++;
    else if (key == KEY_UP && t->scroll > 0)
        t->scroll--;
    else if (key == KEY_RIGHT)
        t->key = (enum top_key)((t->key + 1) % TOP_KEY_COUNT);
    else if (key == KEY_LEFT)
        t->key = (enum top_key)((t->key + TOP_KEY_COUNT - 1) % TOP_KEY_COUNT);
    for (int k = 0; k < TOP_KEY_COUNT; k++)
        if (columns[k].letter == key)
            t->key = (enum top_key)k;
    *ret_now = key == ' ';
    return true;
}

/* Ctrl-Z gives the terminal back for as long as we are stopped. */
static bool signal_handle(int fd, struct terminal *screen)
{
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof info) != sizeof info)
        return true;
    if (info.ssi_signo == SIGTSTP) {
        terminal_give_back(screen);
        (void)kill(getpid(), SIGSTOP);
        return terminal_take(screen) == 0;
    }
    return info.ssi_signo == SIGWINCH || info.ssi_signo == SIGCONT;
}

/* Until the next measurement is due. False when it is the end. */
static bool wait_for_keys(struct top *t, struct terminal *screen, int signals)
{
    double until = clock_ms(CLOCK_MONOTONIC) + t->interval_ms;
    for (bool now = false; !now;) {
        double left = until - clock_ms(CLOCK_MONOTONIC);
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = signals, .events = POLLIN}};
        if (left <= 0 || (poll(fds, 2, (int)left + 1) < 0 && errno != EINTR))
            return left <= 0;
        if (fds[1].revents && !signal_handle(signals, screen))
            return false;
        if (fds[0].revents && !key_handle(t, terminal_key(), &now))
            return false;
        if (fds[0].revents || fds[1].revents)
            screen_draw(t);
    }
    return true;
}

static int signals_open(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        (void)sigaddset(&set, numbers[i]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static int live(struct top *t)
{
    struct terminal screen = {.taken = false};
    CLEANUP_FD int signals = signals_open();
    if (signals < 0 || terminal_take(&screen) < 0)
        return cli_fail("top", "the terminal cannot be used");
    do {
        (void)refresh(t);
        screen_draw(t);
    } while (wait_for_keys(t, &screen, signals));
    terminal_give_back(&screen);
    return CLI_OK;
}

static void json_print(const struct top *t)
{
    json_t *j = top_json(&t->now);
    (void)json_dumpf(j, stdout, JSON_PRESERVE_ORDER | JSON_COMPACT | JSON_REAL_PRECISION(10));
    (void)putchar('\n');
    (void)fflush(stdout);
    json_decref(j);
}

/* Without a screen: a table or a JSON object for each interval. */
static int plain(struct top *t)
{
    int r = refresh(t);
    while (r == 0) {
        (void)poll(NULL, 0, t->interval_ms);
        r = refresh(t);
        if (r == 0 && t->json)
            json_print(t);
        else if (r == 0)
            table_print(t);
        if (t->once)
            break;
    }
    return r < 0 ? cli_fail("top", "%s", t->trouble) : CLI_OK;
}

int cmd_top(int argc, char **argv)
{
    struct top t = {.interval_ms = INTERVAL_MS, .daemon = -EBADF, .key = TOP_RATE};
    int status = options_read(argc, argv, &t);
    if (status != CLI_OK)
        return status;
    bool screen = !t.json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    t.once |= !screen && !t.json;
    status = screen && !t.once ? live(&t) : plain(&t);
    top_free(&t.before);
    top_free(&t.now);
    t.daemon = fd_close(t.daemon);
    return status;
}
