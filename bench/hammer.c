/* Asks an HTTP service on a unix socket the same question, over several connections, as fast as it answers.
 *
 *     hammer SOCKET PATH CONNECTIONS SECONDS
 *
 * prints one line of JSON: answers, those that were not a 200, bytes, and the time that an answer took.
 */
#define _GNU_SOURCE
#include "track.h"
#include "vde.h"

#include <pthread.h>
#include <signal.h>
#include <strings.h>
#include <sys/prctl.h>

enum { CONNECTIONS_MAX = 64, LINE = 4096 };

struct client {
    pthread_t thread;
    struct histogram times;
    uint64_t failures, bytes;
};

static struct sockaddr_un address;
static const char *path;
static uint64_t stop_ns;

static bool skip_body(FILE *in, uint64_t length, struct client *client)
{
    static __thread char sink[1 << 16];
    client->bytes += length;
    while (length) {
        size_t wanted = length < sizeof sink ? length : sizeof sink, got = fread(sink, 1, wanted, in);
        if (got != wanted)
            return false;
        length -= got;
    }
    return true;
}

/* Reads one answer. The answer: its status, or 0 where the connection has ended. */
static int read_answer(FILE *in, struct client *client)
{
    char line[LINE];
    int status = 0;
    uint64_t length = 0;
    bool chunked = false;
    if (!fgets(line, sizeof line, in) || sscanf(line, "HTTP/1.1 %d", &status) != 1)
        return 0;
    while (fgets(line, sizeof line, in) && strcmp(line, "\r\n")) {
        if (!strncasecmp(line, "content-length:", 15))
            length = strtoull(line + 15, NULL, 10);
        chunked = chunked || (!strncasecmp(line, "transfer-encoding:", 18) && strcasestr(line, "chunked"));
    }
    if (!chunked)
        return skip_body(in, length, client) ? status : 0;
    while (fgets(line, sizeof line, in)) {
        length = strtoull(line, NULL, 16);
        if (!skip_body(in, length, client) || !fgets(line, sizeof line, in))
            return 0;
        if (length == 0)
            return status;
    }
    return 0;
}

static void *ask(void *argument)
{
    struct client *client = argument;
    while (clock_ns(CLOCK_MONOTONIC) < stop_ns) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), status = 200;
        if (vde_connect(fd, &address) < 0) {
            client->failures++;
            close(fd);
            usleep(10000);
            continue;
        }
        FILE *in = fdopen(fd, "r");
        while (status && clock_ns(CLOCK_MONOTONIC) < stop_ns) {
            uint64_t asked = clock_ns(CLOCK_MONOTONIC);
            if (dprintf(fd, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path) < 0)
                break;
            status = read_answer(in, client);
            note_latency(&client->times, clock_ns(CLOCK_MONOTONIC) - asked);
            client->failures += status != 200;
        }
        fclose(in);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct client clients[CONNECTIONS_MAX];
    struct histogram *sum = &clients[0].times;
    if (argc != 5)
        return 2;
    int count = atoi(argv[3]);
    count = count > CONNECTIONS_MAX ? CONNECTIONS_MAX : count;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
    path = argv[2];
    stop_ns = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(atof(argv[4]) * 1e9);
    for (int i = 0; i < count; i++)
        pthread_create(&clients[i].thread, NULL, ask, &clients[i]);
    for (int i = 0; i < count; i++) {
        pthread_join(clients[i].thread, NULL);
        for (int n = 0; i && n < BUCKETS; n++)
            sum->buckets[n] += clients[i].times.buckets[n];
        if (i) {
            sum->count += clients[i].times.count;
            clients[0].failures += clients[i].failures;
            clients[0].bytes += clients[i].bytes;
        }
    }
    printf("{\"answers\": %lu, \"failures\": %lu, \"bytes\": %lu, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", sum->count,
           clients[0].failures, clients[0].bytes, percentile_us(sum, 0.5) / 1e3, percentile_us(sum, 0.99) / 1e3);
    return 0;
}
