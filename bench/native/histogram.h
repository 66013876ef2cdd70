/* A histogram of latencies whose buckets are at most 1/128 of their value wide. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define FINE_BITS 7
#define FINE (1 << FINE_BITS)
#define BUCKETS ((64 - FINE_BITS + 1) * FINE)

struct histogram {
    uint64_t counts[BUCKETS], total, max;
};

static inline int bucket_of(uint64_t value) {
    if (value < FINE) return (int)value;
    int shift = 63 - __builtin_clzll(value) - FINE_BITS;
    return (shift + 1) * FINE + (int)((value >> shift) - FINE);
}

static inline uint64_t highest_in(int bucket) {
    if (bucket < FINE) return (uint64_t)bucket;
    int shift = bucket / FINE - 1;
    return (((uint64_t)(bucket % FINE) + FINE + 1) << shift) - 1;
}

static inline void record(struct histogram *histogram, uint64_t value_ns) {
    histogram->counts[bucket_of(value_ns)]++;
    histogram->total++;
    if (value_ns > histogram->max) histogram->max = value_ns;
}

/* The least value, in microseconds, that at least `share` of all recorded ones do not exceed. */
static inline double percentile_us(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)(share * (double)histogram->total + 0.5), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen && seen >= wanted) {
            uint64_t value = highest_in(bucket);
            return (double)(value < histogram->max ? value : histogram->max) / 1e3;
        }
    }
    return 0;
}

#endif
