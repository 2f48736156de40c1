/* Takes over a terminal and gives it back; plain escape sequences that every terminal knows. */
#include "cli/terminal.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void say(const char *sequence)
{
    ssize_t n = write(STDOUT_FILENO, sequence, strlen(sequence));
    (void)n;
}

int terminal_take(struct terminal *t)
{
    if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &t->before) < 0)
        return -ENOTTY;
    struct termios raw = t->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
        return -errno;
    t->taken = true;
    say("\033[?1049h\033[?25l\033[H\033[2J");
    return 0;
}

void terminal_give_back(struct terminal *t)
{
    if (!t->taken)
        return;
    t->taken = false;
    say("\033[0m\033[?25h\033[?1049l");
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
}

void terminal_size(unsigned *ret_rows, unsigned *ret_columns)
{
    struct winsize w;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 0 && w.ws_col > 0;
    *ret_rows = known ? w.ws_row : 24;
    *ret_columns = known ? w.ws_col : 80;
}

int terminal_key(void)
{
    static const int arrows[] = {KEY_UP, KEY_DOWN, KEY_RIGHT, KEY_LEFT};
    char in[32];
    ssize_t n = read(STDIN_FILENO, in, sizeof in);
    if (n <= 0)
        return n < 0 && (errno == EINTR || errno == EAGAIN) ? KEY_NONE : KEY_END;
    if (n == 3 && in[0] == '\033' && (in[1] == '[' || in[1] == 'O') && in[2] >= 'A' && in[2] <= 'D')
        return arrows[in[2] - 'A'];
    return n == 1 && in[0] >= ' ' ? in[0] : KEY_NONE;
}
