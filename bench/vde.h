/* The VDE control handshake, both sides of it, for the programs of this bench.
 *
 * A client connects to DIR/ctl, binds a datagram socket of its own and names it in a request; the server
 * answers with the address of a datagram socket made for that client; each connects to the other.
 */
#ifndef BENCH_VDE_H
#define BENCH_VDE_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { BATCH = 64, FRAME_MAX = 9234, REPLY_SIZE = 110 };

struct vde_request {
    uint32_t magic, version, type;
    struct sockaddr_un address;
    char description[128];
} __attribute__((packed));

/* One end of a link: its control connection, its data socket, and the peer's data socket. */
struct vde_end {
    int ctl, data;
    struct sockaddr_un own, peer;
};

static inline int vde_fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return -1;
}

static inline int vde_address(struct sockaddr_un *address, const char *dir, const char *name)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int length = snprintf(address->sun_path, sizeof address->sun_path, "%s/%s", dir, name);
    return length < (int)sizeof address->sun_path ? 0 : -1;
}

static inline int vde_connect(int fd, const struct sockaddr_un *address)
{
    return connect(fd, (const struct sockaddr *)address, sizeof *address);
}

/* Connects to a control socket, which may be there a moment before its owner listens. */
static inline int vde_connect_patiently(int fd, const struct sockaddr_un *address)
{
    for (int tries = 0; tries < 500; tries++, usleep(10000))
        if (vde_connect(fd, address) == 0 || errno != ECONNREFUSED)
            break;
    return vde_connect(fd, address) == 0 || errno == EISCONN ? 0 : -1;
}

static inline int vde_bind(int fd, const struct sockaddr_un *address)
{
    return bind(fd, (const struct sockaddr *)address, sizeof *address);
}

/* Serves DIR/ctl. The answer is the listening socket, or -1. */
static inline int vde_listen(const char *dir)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    mkdir(dir, 0700);
    if (fd < 0 || vde_address(&address, dir, "ctl") < 0 || vde_bind(fd, &address) < 0 || listen(fd, 1024) < 0)
        return vde_fail("cannot serve the control socket");
    return fd;
}

/* Takes the next client of `listener`: its data socket is DIR/fdNUMBER, with a send buffer of `buffer` bytes
 * (0: as it comes). The answer is 0, or -1. */
static inline int vde_accept(int listener, const char *dir, int number, int buffer, struct vde_end *end)
{
    struct vde_request request;
    char name[16];
    end->ctl = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (end->ctl < 0)
        return vde_fail("accept");
    memset(&request, 0, sizeof request);
    if (recv(end->ctl, &request, sizeof request, 0) < 122 || request.magic != 0xfeedface) {
        close(end->ctl);
        return -1;
    }
    end->peer = request.address;
    end->data = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (buffer)
        setsockopt(end->data, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    snprintf(name, sizeof name, "fd%d", number);
    if (end->data < 0 || vde_address(&end->own, dir, name) < 0 || vde_bind(end->data, &end->own) < 0
        || vde_connect(end->data, &end->peer) < 0
        || send(end->ctl, &end->own, REPLY_SIZE, MSG_NOSIGNAL) != REPLY_SIZE)
        return vde_fail("cannot open a link's data socket");
    return 0;
}

/* Joins the network served at DIR, as vde_plug does. The answer is 0, or -1. */
static inline int vde_attach(const char *dir, int number, int buffer, struct vde_end *end)
{
    struct vde_request request = {.magic = 0xfeedface, .version = 3};
    struct sockaddr_un control;
    struct timeval patience = {.tv_sec = 10};
    char name[32];
    snprintf(name, sizeof name, ".%05d-%05d", getpid() % 100000, number % 100000);
    end->ctl = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    end->data = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (end->ctl < 0 || end->data < 0 || vde_address(&control, dir, "ctl") < 0 || vde_address(&end->own, dir, name) < 0)
        return vde_fail("cannot make a client's sockets");
    if (buffer)
        setsockopt(end->data, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    setsockopt(end->ctl, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    request.address = end->own;
    memcpy(request.description, "bench", 5);
    memset(&end->peer, 0, sizeof end->peer);
    if (vde_connect_patiently(end->ctl, &control) < 0 || vde_bind(end->data, &end->own) < 0
        || send(end->ctl, &request, 122 + 5, MSG_NOSIGNAL) < 0
        || recv(end->ctl, &end->peer, REPLY_SIZE, 0) != REPLY_SIZE || vde_connect(end->data, &end->peer) < 0)
        return vde_fail("cannot join the network");
    unlink(end->own.sun_path);
    return 0;
}

static inline void vde_close(struct vde_end *end)
{
    close(end->ctl);
    close(end->data);
}

#endif
