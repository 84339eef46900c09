/* The load generator: the host and every link of a multilink, in one process.
 *
 * It takes commands on stdin, a line each, and answers each with one line of JSON:
 *
 *     serve DIR            be a VDE network at DIR for the forwarder to join: its host side
 *     accept               wait until the forwarder has joined
 *     join DIR             or else: be the host side by joining DIR as a client
 *     attach DIR N         N more links, by N clients of DIR/ctl, one after the other
 *     detach               close all links; done when the forwarder has removed its sockets for them
 *     stall N, resume N    link N (from 1) stops reading, reads again
 *     run KEY=VALUE...     send, receive, count. dir=down (host to links), up or both; size, ms;
 *                          rate (frames a second and source, 0: as fast as it goes), spin (0: sleep in epoll),
 *                          lead (0: any; otherwise no source is so many frames ahead of the slowest one),
 *                          hiccup (0: none; every 25 ms the sinks stop reading for so many ms),
 *                          pid (one or more: whose CPU time is told)
 *
 * Sources are slowed by full sockets only. Sinks copy no more than the stamp of a frame out of the kernel. A frame that is
 * still missing when nothing at all has come for a while is lost.
 */
#define _GNU_SOURCE
#include "track.h"
#include "vde.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

enum { ENDS_MAX = 4096, EVENTS = 512, QUIET_MS = 200, HICCUP_EVERY_MS = 25, ACCEPT_S = 20, HOST = 0, PIDS_MAX = 8 };

struct end {
    struct vde_end vde;
    bool stalled, blocked, wants_room;
    uint64_t sent;
    struct tracker down, up; /* what link i received of the host, what the host received of link i */
};

struct plan {
    bool down, up, spin;
    int size, ms, hiccup_ms, lead, pid_count, pids[PIDS_MAX];
    double rate;
};

static struct end *ends; /* ends[HOST], then the links */
static int end_count = 1, listener = -1, poller, attached;
static char host_dir[108];

static uint32_t run_id, run_size;
static uint64_t received, last_receive_ns, foreign, truncated;
static struct histogram latency;

static char outgoing[BATCH][FRAME_MAX];
static struct stamp incoming[BATCH];
static struct iovec out_vectors[BATCH], in_vectors[BATCH];
static struct mmsghdr out_messages[BATCH], in_messages[BATCH];

static void watch(int i, int operation)
{
    struct end *end = &ends[i];
    struct epoll_event event = {.data.u32 = i};
    event.events = (end->stalled ? 0 : EPOLLIN) | (end->wants_room ? EPOLLOUT : 0);
    epoll_ctl(poller, operation, end->vde.data, &event);
}

static void receive(int i)
{
    int count = recvmmsg(ends[i].vde.data, in_messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    for (int n = 0; n < count; n++) {
        struct stamp *stamp = &incoming[n];
        bool mine = in_messages[n].msg_len >= sizeof *stamp && stamp->run == run_id;
        if (mine && in_messages[n].msg_len != run_size) { /* vde_switch cuts long frames short */
            truncated++;
            continue;
        }
        if (!mine || (i != HOST && stamp->stream != HOST) || stamp->stream >= (uint32_t)end_count) {
            foreign += mine;
            continue;
        }
        track(i == HOST ? &ends[stamp->stream].up : &ends[i].down, stamp->sequence);
        note_latency(&latency, now - stamp->sent_ns);
        received++;
        last_receive_ns = now;
    }
}

static void send_batch(int i, int count)
{
    struct end *end = &ends[i];
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    for (int n = 0; n < count; n++) {
        struct stamp *stamp = (struct stamp *)outgoing[n];
        stamp->run = run_id;
        stamp->stream = i;
        stamp->sequence = end->sent + n;
        stamp->sent_ns = now;
    }
    int sent = sendmmsg(end->vde.data, out_messages, count, MSG_DONTWAIT);
    end->sent += sent > 0 ? sent : 0;
    if (sent < count) {
        end->blocked = end->wants_room = true;
        watch(i, EPOLL_CTL_MOD);
    }
}

/* How many frames source `end` may send now: by its rate, if it has one, and by what the slowest has sent. */
static int due(const struct plan *plan, const struct end *end, uint64_t elapsed_ns, uint64_t slowest)
{
    if (end->blocked)
        return 0;
    double count = plan->rate ? plan->rate * elapsed_ns / 1e9 + 1 - end->sent : BATCH;
    if (plan->lead && slowest + plan->lead < end->sent + count)
        count = (double)(slowest + plan->lead) - end->sent;
    return count >= BATCH ? BATCH : count >= 1 ? (int)count : 0;
}

static uint64_t least_sent(int first, int last)
{
    uint64_t least = UINT64_MAX;
    for (int i = first; i < last; i++)
        least = ends[i].sent < least ? ends[i].sent : least;
    return least;
}

static void poll_ends(int64_t wait_ns)
{
    static struct epoll_event events[EVENTS];
    struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
    int ready = epoll_pwait2(poller, events, EVENTS, &wait, NULL);
    for (int n = 0; n < ready; n++) {
        int i = events[n].data.u32;
        if (events[n].events & EPOLLIN)
            receive(i);
        if (events[n].events & EPOLLOUT) {
            ends[i].blocked = ends[i].wants_room = false;
            watch(i, EPOLL_CTL_MOD);
        }
    }
}

static void drive(const struct plan *plan, uint64_t start)
{
    int first = plan->down ? HOST : 1, last = plan->up ? end_count : 1;
    uint64_t now = start, stop = start + plan->ms * 1000000ull;
    while (now < stop) {
        bool idle = true, hiccup = (now - start) / 1000000 % HICCUP_EVERY_MS < (uint64_t)plan->hiccup_ms;
        uint64_t slowest = plan->lead ? least_sent(first, last) : 0;
        for (int i = first; i < last; i++) {
            int count = due(plan, &ends[i], now - start, slowest);
            if (count) {
                send_batch(i, count);
                if (i != HOST)
                    poll_ends(0); /* many sources must not keep the sinks waiting */
            }
            idle = idle && (count == 0 || ends[i].blocked);
        }
        int64_t wait = 0;
        if (hiccup) { /* only the sources go on */
            usleep(100);
            for (int i = first; i < last; i++)
                ends[i].blocked = false;
            now = clock_ns(CLOCK_MONOTONIC);
            continue;
        }
        if (idle && !plan->spin) {
            wait = stop - now;
            if (plan->rate) {
                uint64_t next = start + (uint64_t)(ends[first].sent / plan->rate * 1e9);
                wait = next <= now ? 0 : next < stop ? (int64_t)(next - now) : wait;
            }
        }
        poll_ends(wait);
        now = clock_ns(CLOCK_MONOTONIC);
    }
}

static uint64_t expected(const struct plan *plan)
{
    uint64_t frames = 0;
    for (int i = 1; i < end_count; i++)
        frames += (plan->down && !ends[i].stalled ? ends[HOST].sent : 0) + (plan->up ? ends[i].sent : 0);
    return frames;
}

static uint64_t cpu_ns(const struct plan *plan)
{
    uint64_t sum = 0;
    for (int i = 0; i < plan->pid_count; i++) {
        clockid_t clock;
        if (clock_getcpuclockid(plan->pids[i], &clock) == 0)
            sum += clock_ns(clock);
    }
    return sum;
}

static void run(const struct plan *plan)
{
    run_id++;
    received = foreign = truncated = 0;
    run_size = plan->size;
    memset(&latency, 0, sizeof latency);
    for (int i = 0; i < end_count; i++) {
        ends[i].sent = 0;
        memset(&ends[i].down, 0, sizeof ends[i].down);
        memset(&ends[i].up, 0, sizeof ends[i].up);
    }
    for (int n = 0; n < BATCH; n++)
        out_vectors[n].iov_len = plan->size;
    uint64_t cpu = cpu_ns(plan), own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), start = clock_ns(CLOCK_MONOTONIC);
    last_receive_ns = start;
    drive(plan, start);
    uint64_t wanted = expected(plan), sent = plan->down ? ends[HOST].sent : 0, quiet_since = clock_ns(CLOCK_MONOTONIC);
    while (received < wanted) {
        uint64_t since = last_receive_ns > quiet_since ? last_receive_ns : quiet_since;
        if (clock_ns(CLOCK_MONOTONIC) - since > QUIET_MS * 1000000ull)
            break;
        poll_ends(1000000);
    }
    uint64_t unique = 0, to_host = 0, duplicated = 0, reordered = 0, least = UINT64_MAX;
    for (int i = 1; i < end_count; i++) {
        struct end *end = &ends[i];
        uint64_t own_frames = end->up.unique + (end->stalled ? 0 : end->down.unique);
        unique += own_frames;
        to_host += end->up.unique;
        duplicated += end->up.duplicated + end->down.duplicated;
        reordered += end->up.reordered + end->down.reordered;
        sent += plan->up ? end->sent : 0;
        if (!end->stalled && own_frames < least)
            least = own_frames;
    }
    printf("{\"wall_s\": %.6f, \"cpu_s\": %.6f, \"generator_cpu_s\": %.6f, \"sent\": %lu, \"expected\": %lu, \"received\": %lu, \"to_host\": %lu, "
           "\"duplicated\": %lu, \"reordered\": %lu, \"foreign\": %lu, \"truncated\": %lu, \"least_of_a_link\": %lu, \"latency_p50_us\": %.1f, "
           "\"latency_p99_us\": %.1f, \"latency_max_us\": %.1f}\n",
           (last_receive_ns - start) / 1e9, (cpu_ns(plan) - cpu) / 1e9, (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own) / 1e9,
           sent, wanted, unique, to_host, duplicated, reordered, foreign, truncated, least, percentile_us(&latency, 0.5),
           percentile_us(&latency, 0.99), latency.highest / 1e3);
}

static void parse_and_run(char *words)
{
    struct plan plan = {.size = 1514, .ms = 200, .spin = true};
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
        char *value = strchr(word, '=');
        if (!value)
            continue;
        *value++ = 0;
        if (!strcmp(word, "dir")) {
            plan.down = !strcmp(value, "down") || !strcmp(value, "both");
            plan.up = !strcmp(value, "up") || !strcmp(value, "both");
        } else if (!strcmp(word, "size"))
            plan.size = atoi(value);
        else if (!strcmp(word, "ms"))
            plan.ms = atoi(value);
        else if (!strcmp(word, "rate"))
            plan.rate = atof(value);
        else if (!strcmp(word, "spin"))
            plan.spin = atoi(value);
        else if (!strcmp(word, "lead"))
            plan.lead = atoi(value);
        else if (!strcmp(word, "hiccup"))
            plan.hiccup_ms = atoi(value);
        else if (!strcmp(word, "pid") && plan.pid_count < PIDS_MAX)
            plan.pids[plan.pid_count++] = atoi(value);
    }
    run(&plan);
}

static void answer(bool done, double seconds)
{
    printf("{\"ok\": %s, \"links\": %d, \"seconds\": %.6f}\n", done ? "true" : "false", end_count - 1, seconds);
}

static bool attach(const char *dir, int count)
{
    for (int i = 0; i < count && end_count < ENDS_MAX; i++, end_count++) {
        memset(&ends[end_count], 0, sizeof *ends);
        if (vde_attach(dir, ++attached, 0, &ends[end_count].vde) < 0)
            return false;
        watch(end_count, EPOLL_CTL_ADD);
    }
    return true;
}

static bool detach(void)
{
    int last = end_count;
    for (int i = 1; i < last; i++)
        vde_close(&ends[i].vde);
    end_count = 1;
    for (int i = 1; i < last; i++)
        for (int tries = 0; access(ends[i].vde.peer.sun_path, F_OK) == 0; tries++, usleep(200))
            if (tries == 50000)
                return false;
    return true;
}

static bool host_ready(bool done)
{
    if (done)
        watch(HOST, EPOLL_CTL_ADD);
    return done;
}

static void obey(char *line)
{
    char argument[108] = "";
    int count = 0;
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    bool done = false;
    struct timeval patience = {.tv_sec = ACCEPT_S};
    if (sscanf(line, "serve %107s", host_dir) == 1) {
        done = (listener = vde_listen(host_dir)) >= 0;
        setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    } else if (!strcmp(line, "accept"))
        done = host_ready(vde_accept(listener, host_dir, 0, 0, &ends[HOST].vde) == 0);
    else if (sscanf(line, "join %107s", argument) == 1)
        done = host_ready(vde_attach(argument, 0, 0, &ends[HOST].vde) == 0);
    else if (sscanf(line, "attach %107s %d", argument, &count) == 2)
        done = attach(argument, count);
    else if (!strcmp(line, "detach"))
        done = detach();
    else if (sscanf(line, "%107s %d", argument, &count) == 2 && count > 0 && count < end_count) {
        done = !strcmp(argument, "stall") || !strcmp(argument, "resume");
        ends[count].stalled = !strcmp(argument, "stall");
        watch(count, EPOLL_CTL_MOD);
    }
    answer(done, (clock_ns(CLOCK_MONOTONIC) - start) / 1e9);
}

int main(void)
{
    char line[512];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    ends = calloc(ENDS_MAX, sizeof *ends);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < BATCH; i++) {
        struct stamp *stamp = (struct stamp *)outgoing[i];
        memset(outgoing[i], 0xa5, FRAME_MAX);
        memcpy(stamp, "\x02\0\0\0\0\2\x02\0\0\0\0\1\x88\xb5", 14);
        out_vectors[i] = (struct iovec){outgoing[i], FRAME_MAX};
        in_vectors[i] = (struct iovec){&incoming[i], sizeof incoming[i]};
        out_messages[i].msg_hdr = (struct msghdr){.msg_iov = &out_vectors[i], .msg_iovlen = 1};
        in_messages[i].msg_hdr = (struct msghdr){.msg_iov = &in_vectors[i], .msg_iovlen = 1};
    }
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "run ", 4))
            parse_and_run(line + 4);
        else
            obey(line);
        fflush(stdout);
    }
    return 0;
}
