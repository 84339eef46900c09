/* What became of the frames that were sent: order, losses, duplicates and latency. */
#ifndef BENCH_TRACK_H
#define BENCH_TRACK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* The first bytes of every frame of a load: an Ethernet header, then who sent it, as which, and when. */
struct stamp {
    uint8_t to[6], from[6], type[2];
    uint32_t run, stream;
    uint64_t sequence, sent_ns;
} __attribute__((packed));

enum { WINDOW = 4096 }; /* a frame that is later than this many others counts as reordered, never as a duplicate */

/* One stream of frames as one receiver saw it. */
struct tracker {
    uint64_t next, unique, duplicated, reordered;
    uint64_t seen[WINDOW / 64];
};

/* Notes frame `sequence`. The answer: how far the stream has moved on. */
static inline uint64_t track(struct tracker *t, uint64_t sequence)
{
    uint64_t moved = 0, mask = 1ull << sequence % 64, *word = &t->seen[sequence % WINDOW / 64];
    if (sequence >= t->next) {
        moved = sequence + 1 - t->next;
        if (moved >= WINDOW)
            memset(t->seen, 0, sizeof t->seen);
        else
            for (uint64_t s = t->next; s <= sequence; s++)
                t->seen[s % WINDOW / 64] &= ~(1ull << s % 64);
        t->next = sequence + 1;
    } else {
        if (t->next - sequence < WINDOW && *word & mask) {
            t->duplicated++;
            return 0;
        }
        t->reordered++;
    }
    *word |= mask;
    t->unique++;
    return moved;
}

/* Latencies, in buckets that are at most 1/32 wide of what they hold. */
enum { FINE = 32, BUCKETS = 60 * FINE };

struct histogram {
    uint64_t count, highest;
    uint64_t buckets[BUCKETS];
};

static inline void note_latency(struct histogram *h, uint64_t ns)
{
    int shift = 63 - __builtin_clzll(ns | FINE) - 5;
    h->buckets[shift * FINE + (ns >> shift)]++;
    h->count++;
    h->highest = ns > h->highest ? ns : h->highest;
}

/* The latency, in microseconds, that `share` of the frames did not exceed. */
static inline double percentile_us(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * h->count), passed = 0;
    for (int i = 0; i < BUCKETS; i++) {
        passed += h->buckets[i];
        if (h->buckets[i] && passed >= wanted) {
            int shift = i < 2 * FINE ? 0 : i / FINE - 1;
            return ((uint64_t)(i - shift * FINE) << shift) / 1e3;
        }
    }
    return 0;
}

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
