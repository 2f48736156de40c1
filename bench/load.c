/* The load generator's command line: reads a plan, runs one mode on one or more threads, and prints
 * one line of key=value. The modes are in load-saturate.c and load-idle.c. */

#include "load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define THREADS_MAX 64u

static const char usage[] =
    "usage: load MODE --port P [--addr A] [--host NAME] [--path /] [--seconds S]\n"
    "            [--connections N] [--threads N] [--count N] [--pause-us N] [--sources N]\n"
    "            [--requests N] [--grace S] [--think-us N] [--ask]\n"
    "modes:\n"
    "  connect     a connection for each request: connect, GET, read to the end, close\n"
    "  keepalive   requests one after the other over connections that stay open\n"
    "  first-byte  one connection at a time, from connect() to the first byte of the answer\n"
    "  hold        opens silent connections and keeps them until standard input ends; with\n"
    "              --ask each sends its request\n";

enum option_key {
    OPT_PORT = 1,
    OPT_ADDR,
    OPT_HOST,
    OPT_PATH,
    OPT_SECONDS,
    OPT_CONNECTIONS,
    OPT_THREADS,
    OPT_COUNT,
    OPT_PAUSE_US,
    OPT_SOURCES,
    OPT_REQUESTS,
    OPT_GRACE,
    OPT_THINK_US,
    OPT_ASK,
};

static const struct option options[] = {
    {"port", required_argument, NULL, OPT_PORT},
    {"addr", required_argument, NULL, OPT_ADDR},
    {"host", required_argument, NULL, OPT_HOST},
    {"path", required_argument, NULL, OPT_PATH},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"count", required_argument, NULL, OPT_COUNT},
    {"pause-us", required_argument, NULL, OPT_PAUSE_US},
    {"sources", required_argument, NULL, OPT_SOURCES},
    {"requests", required_argument, NULL, OPT_REQUESTS},
    {"grace", required_argument, NULL, OPT_GRACE},
    {"think-us", required_argument, NULL, OPT_THINK_US},
    {"ask", no_argument, NULL, OPT_ASK},
    {NULL, 0, NULL, 0},
};

static int number_parse(const char *text, unsigned max, unsigned *ret_value)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || value > max)
        return -EINVAL;
    *ret_value = (unsigned)value;
    return 0;
}

static int seconds_parse(const char *text, double *ret_seconds)
{
    char *end = NULL;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds > 0 && seconds <= 3600))
        return -EINVAL;
    *ret_seconds = seconds;
    return 0;
}

static int port_parse(const char *text, struct plan *plan)
{
    unsigned port = 0;
    int r = number_parse(text, UINT16_MAX, &port);
    if (r < 0 || port == 0)
        return -EINVAL;
    plan->to.sin_port = htons((uint16_t)port);
    return 0;
}

static int option_take(struct plan *plan, int key, const char *text)
{
    switch (key) {
    case OPT_PORT:
        return port_parse(text, plan);
    case OPT_ADDR:
        return inet_pton(AF_INET, text, &plan->to.sin_addr) == 1 ? 0 : -EINVAL;
    case OPT_HOST:
        plan->host = text;
        return 0;
    case OPT_PATH:
        plan->path = text;
        return 0;
    case OPT_SECONDS:
        return seconds_parse(text, &plan->seconds);
    case OPT_CONNECTIONS:
        return number_parse(text, 1000000, &plan->connections);
    case OPT_THREADS:
        return number_parse(text, THREADS_MAX, &plan->threads);
    case OPT_COUNT:
        return number_parse(text, 100000000, &plan->count);
    case OPT_PAUSE_US:
        return number_parse(text, 999999, &plan->pause_us);
    case OPT_SOURCES:
        return number_parse(text, 65000, &plan->sources);
    case OPT_REQUESTS:
        return number_parse(text, 100000000, &plan->requests);
    case OPT_GRACE:
        return seconds_parse(text, &plan->grace);
    case OPT_THINK_US:
        return number_parse(text, 100000000, &plan->think_us);
    case OPT_ASK:
        plan->ask = true;
        return 0;
    default:
        return -EINVAL;
    }
}

static int plan_parse(struct plan *plan, int argc, char **argv)
{
    *plan = (struct plan){.host = "localhost",
                          .path = "/",
                          .to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}},
                          .seconds = 1,
                          .connections = 64,
                          .threads = 1,
                          .count = 1000};
    int key;
    while ((key = getopt_long(argc, argv, "", options, NULL)) != -1) {
        int r = option_take(plan, key, optarg);
        if (r < 0)
            return r;
    }
    if (optind + 1 != argc || !plan->to.sin_port || !plan->threads || !plan->connections)
        return -EINVAL;
    plan->mode = argv[optind];
    return 0;
}

static int plan_request(struct plan *plan)
{
    bool close_after = strcmp(plan->mode, "keepalive") != 0;
    int n =
        snprintf(plan->request, sizeof plan->request,
                 "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUser-Agent: berth-load\r\n%s\r\n", plan->path,
                 plan->host, ntohs(plan->to.sin_port), close_after ? "Connection: close\r\n" : "");
    if (n < 0 || (size_t)n >= sizeof plan->request)
        return -EMSGSIZE;
    plan->request_len = (size_t)n;
    return 0;
}

int load_socket(const struct plan *plan, unsigned index, int flags)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, IPPROTO_TCP);
    if (fd < 0)
        return -errno;
    if (plan->sources == 0)
        return fd;
    /* The port is chosen by connect(), where only the whole four-tuple has to be free. */
    int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(0x7f010001u + index % plan->sources);
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0 ||
        bind(fd, (const struct sockaddr *)&from, sizeof from) < 0) {
        int r = -errno;
        (void)fd_close(fd);
        return r;
    }
    return fd;
}

struct job {
    pthread_t thread;
    struct plan plan;
    bool reconnect;
    uint64_t until_ns;
    struct tally tally;
    int result;
};

static void *job_main(void *arg)
{
    struct job *job = arg;
    job->result = load_saturate(&job->plan, job->reconnect, job->until_ns, &job->tally);
    return NULL;
}

/* Thread number `index` takes its share of the connections. */
static int job_start(struct job *job, const struct plan *plan, unsigned index, uint64_t until_ns)
{
    job->plan = *plan;
    job->plan.connections = plan->connections / plan->threads;
    if (index < plan->connections % plan->threads)
        job->plan.connections++;
    job->plan.requests = (plan->requests + plan->threads - 1) / plan->threads;
    job->reconnect = strcmp(plan->mode, "connect") == 0;
    job->until_ns = until_ns;
    job->tally.latency = calloc(1, sizeof *job->tally.latency);
    if (!job->tally.latency)
        return -ENOMEM;
    return -pthread_create(&job->thread, NULL, job_main, job);
}

static int job_finish(struct job *job, struct tally *sum)
{
    (void)pthread_join(job->thread, NULL);
    sum->done += job->tally.done;
    sum->failed += job->tally.failed;
    sum->refused += job->tally.refused;
    sum->reset += job->tally.reset;
    sum->cut += job->tally.cut;
    sum->wrong += job->tally.wrong;
    sum->stalled += job->tally.stalled;
    sum->bytes += job->tally.bytes;
    hist_merge(sum->latency, job->tally.latency);
    free(job->tally.latency);
    return job->result;
}

static int run_threads(const struct plan *plan, struct tally *sum)
{
    static const double ns_per_s = 1e9;
    struct job *jobs = calloc(plan->threads, sizeof *jobs);
    if (!jobs)
        return -ENOMEM;
    uint64_t until_ns = now_ns() + (uint64_t)(plan->seconds * ns_per_s);
    unsigned started = 0;
    int r = 0;
    while (r == 0 && started < plan->threads) {
        r = job_start(&jobs[started], plan, started, until_ns);
        if (r == 0)
            started++;
        else
            free(jobs[started].tally.latency);
    }
    for (unsigned i = 0; i < started; i++) {
        int joined = job_finish(&jobs[i], sum);
        r = r < 0 ? r : joined;
    }
    free(jobs);
    return r;
}

static void tally_print(const struct plan *plan, const struct tally *tally, double seconds)
{
    printf("%s done=%llu failed=%llu stalled=%llu seconds=%.3f per_second=%.1f "
           "bytes_per_second=%.0f p50_us=%.2f p99_us=%.2f max_us=%.2f refused=%llu reset=%llu "
           "cut=%llu wrong=%llu\n",
           plan->mode, (unsigned long long)tally->done, (unsigned long long)tally->failed,
           (unsigned long long)tally->stalled, seconds, (double)tally->done / seconds,
           (double)tally->bytes / seconds, (double)hist_quantile(tally->latency, 500) / 1e3,
           (double)hist_quantile(tally->latency, 990) / 1e3,
           (double)hist_largest(tally->latency) / 1e3, (unsigned long long)tally->refused,
           (unsigned long long)tally->reset, (unsigned long long)tally->cut,
           (unsigned long long)tally->wrong);
}

static int run_measured(const struct plan *plan)
{
    struct tally tally = {.latency = calloc(1, sizeof *tally.latency)};
    if (!tally.latency)
        return -ENOMEM;
    uint64_t start_ns = now_ns();
    int r = strcmp(plan->mode, "first-byte") == 0 ? load_first_byte(plan, &tally)
                                                  : run_threads(plan, &tally);
    if (r == 0)
        tally_print(plan, &tally, (double)(now_ns() - start_ns) / 1e9);
    free(tally.latency);
    return r;
}

/* A front that refuses ten thousand silent clients must not be excused by our own limit. */
static void limit_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static bool mode_known(const char *mode)
{
    static const char *const modes[] = {"connect", "keepalive", "first-byte", "hold"};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(mode, modes[i]) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    struct plan plan;
    if (plan_parse(&plan, argc, argv) < 0 || !mode_known(plan.mode) || plan_request(&plan) < 0) {
        fputs(usage, stderr);
        return 2;
    }
    limit_raise();
    int r = strcmp(plan.mode, "hold") == 0 ? load_hold(&plan) : run_measured(&plan);
    if (r < 0) {
        fprintf(stderr, "load: %s failed error=%s\n", plan.mode, strerror(-r));
        return 1;
    }
    return 0;
}
