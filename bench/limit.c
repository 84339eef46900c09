/* The limit: a multilink that does nothing but epoll, recvmmsg and sendmmsg.
 *
 *     limit MULTILINK_DIR HOST_DIR [SNDBUF]
 *
 * joins the network at HOST_DIR as its host side and serves MULTILINK_DIR to its links. Frames from the host go to every
 * link, frames from a link to the host. A full socket is waited for, a little; one that stays full loses frames
 * until it takes one again. No names, no counters, no options: what this program does not do costs nothing.
 */
#define _GNU_SOURCE
#include "vde.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

enum { LINKS_MAX = 4096, PATIENCE_MS = 20, LISTENER = -1, HOST = 0 };

struct port {
    struct vde_end end;
    bool open, stuck;
};

static struct port ports[LINKS_MAX]; /* ports[HOST] is the host */
static int port_count = 1, listener, poller, send_buffer;
static const char *directory;

static char frames[BATCH][FRAME_MAX];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];

static void watch(int fd, int port, bool control)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)(uint32_t)port << 1 | control};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void close_port(struct port *port)
{
    vde_close(&port->end);
    unlink(port->end.own.sun_path);
    port->open = false;
}

static void send_batch(struct port *port, int count)
{
    for (int done = 0; done < count;) {
        int sent = sendmmsg(port->end.data, messages + done, count - done, MSG_DONTWAIT);
        if (sent > 0) {
            done += sent;
            port->stuck = false;
            continue;
        }
        if (errno != EAGAIN || port->stuck)
            return;
        struct pollfd writable = {.fd = port->end.data, .events = POLLOUT};
        port->stuck = poll(&writable, 1, PATIENCE_MS) == 0;
    }
}

static void forward_from(int from)
{
    for (int i = 0; i < BATCH; i++)
        vectors[i].iov_len = FRAME_MAX;
    int count = recvmmsg(ports[from].end.data, messages, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++)
        vectors[i].iov_len = messages[i].msg_len;
    if (count <= 0)
        return;
    if (from != HOST)
        send_batch(&ports[HOST], count);
    else
        for (int to = 1; to < port_count; to++)
            if (ports[to].open)
                send_batch(&ports[to], count);
}

static void accept_link(void)
{
    int number = 1;
    while (number < port_count && ports[number].open)
        number++;
    struct port *port = &ports[number];
    if (number == LINKS_MAX || vde_accept(listener, directory, number, send_buffer, &port->end) < 0)
        return;
    port_count = number == port_count ? number + 1 : port_count;
    port->open = true;
    watch(port->end.ctl, number, true);
    watch(port->end.data, number, false);
}

int main(int argc, char **argv)
{
    struct epoll_event events[BATCH];
    if (argc < 3)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    directory = argv[1];
    send_buffer = argc > 3 ? atoi(argv[3]) : 1 << 20;
    for (int i = 0; i < BATCH; i++) {
        vectors[i].iov_base = frames[i];
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (vde_attach(argv[2], 0, send_buffer, &ports[HOST].end) < 0 || (listener = vde_listen(directory)) < 0)
        return 1;
    ports[HOST].open = true;
    watch(listener, LISTENER, true);
    watch(ports[HOST].end.ctl, HOST, true);
    watch(ports[HOST].end.data, HOST, false);
    for (;;) {
        int ready = epoll_wait(poller, events, BATCH, -1);
        for (int i = 0; i < ready; i++) {
            int port = (int32_t)(events[i].data.u64 >> 1);
            bool control = events[i].data.u64 & 1;
            if (port == LISTENER)
                accept_link();
            else if (!control && ports[port].open)
                forward_from(port);
            else if (port == HOST)
                return 0;
            else if (ports[port].open)
                close_port(&ports[port]);
        }
    }
}
