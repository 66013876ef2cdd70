/* An open-loop publisher: the same bytes at a fixed rate, each time with the current stamp written into them.
 *
 *   publish PORT TEMPLATE PREAMBLE ANSWER COUNT INTERVAL_NS CYCLE
 *
 * TEMPLATE and PREAMBLE are files ("-": no preamble). Every run of 19 `@` in the template becomes the stamp of the
 * moment of its write, every run of 8 `#` a number that counts up, modulo CYCLE. ANSWER is what each write must be answered with, once for each time that it is named as
 * "N*TEXT" ("-": nothing is answered). It publishes at the times that the rate says, however late
 * the answers are, until UNANSWERED writes wait for theirs: then the server is overloaded, and `late_p99_us` says so.
 */
#include "net.h"

#include <poll.h>

#define ANSWER_BYTES 65536
#define UNANSWERED 32
#define NUMBER_DIGITS 8
#define PATIENCE_NS 10000000000ull

#define MAX_PLACES 65536

struct places {
    char *at[MAX_PLACES];
    int count;
};

static char *content;
static size_t content_bytes;
static struct places stamps, numbers;

static char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("cannot read %s", path);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*bytes + 1);
    if (fread(data, 1, *bytes, file) != *bytes) fail("cannot read %s", path);
    fclose(file);
    return data;
}

static void find_places(struct places *places, char letter, size_t width) {
    char mark[32];
    memset(mark, letter, width);
    for (char *at = content; (at = memmem(at, content_bytes - (size_t)(at - content), mark, width)); at += width) {
        if (places->count == MAX_PLACES) fail("the template has too many places to write to");
        places->at[places->count++] = at;
    }
}

static void write_digits(char *at, int width, unsigned long long value) {
    char digits[32];
    snprintf(digits, sizeof digits, "%0*llu", width, value);
    memcpy(at, digits, (size_t)width);
}

static void write_stamps(uint64_t now) {
    for (int i = 0; i < stamps.count; i++) write_digits(stamps.at[i], STAMP_DIGITS, STAMP_BASE + now);
}

static void write_numbers(uint64_t cycle) {
    static uint64_t number;
    for (int i = 0; i < numbers.count; i++) write_digits(numbers.at[i], NUMBER_DIGITS, number++ % cycle);
}

static void write_all(int fd, const char *data, size_t bytes) {
    while (bytes) {
        ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);
        if (sent < 0) fail("the server closed the publisher's connection: %s", strerror(errno));
        data += sent;
        bytes -= (size_t)sent;
    }
}

/* How often `text` was in what has come; an answer that is split between two reads is found in the second. */
static long count_answers(int fd, const char *text, int wait_ms) {
    static char kept[ANSWER_BYTES];
    static size_t kept_bytes;
    size_t text_bytes = strlen(text);
    long count = 0;
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    while (poll(&readable, 1, wait_ms) > 0) {
        ssize_t got = recv(fd, kept + kept_bytes, sizeof kept - kept_bytes, MSG_DONTWAIT);
        if (got <= 0) fail("the server closed the publisher's connection");
        kept_bytes += (size_t)got;
        char *at = kept, *end = kept + kept_bytes, *found;
        while ((found = memmem(at, (size_t)(end - at), text, text_bytes))) count++, at = found + text_bytes;
        size_t tail = (size_t)(end - at) < text_bytes - 1 ? (size_t)(end - at) : text_bytes - 1;
        memmove(kept, end - tail, tail);
        kept_bytes = tail;
        wait_ms = 0;
    }
    return count;
}

static int by_value(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

int main(int argc, char **argv) {
    if (argc != 8) fail("usage: publish PORT TEMPLATE PREAMBLE ANSWER COUNT INTERVAL_NS CYCLE");
    const char *answer = argv[4];
    long per_write = 0, answered = 0, count = atol(argv[5]);
    uint64_t interval_ns = strtoull(argv[6], NULL, 10), cycle = strtoull(argv[7], NULL, 10);
    if (strcmp(answer, "-")) {
        char *text;
        per_write = strtol(answer, &text, 10);
        answer = text + 1;
    }
    content = read_file(argv[2], &content_bytes);
    find_places(&stamps, '@', STAMP_DIGITS);
    find_places(&numbers, '#', NUMBER_DIGITS);

    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(INADDR_LOOPBACK, atoi(argv[1]));
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("cannot connect: %s", strerror(errno));
    set_nodelay(fd);
    if (strcmp(argv[3], "-")) {
        size_t bytes;
        char *preamble = read_file(argv[3], &bytes);
        write_all(fd, preamble, bytes);
        usleep(50000);
    }
    count_answers(fd, per_write ? answer : "\n", 0);

    uint64_t *late = calloc((size_t)count + 1, sizeof *late);
    uint64_t begin = now_ns() + 1000000;
    for (long i = 0; i < count; i++) {
        uint64_t due = begin + (uint64_t)i * interval_ns;
        struct timespec until = {.tv_sec = (time_t)(due / 1000000000ull), .tv_nsec = (long)(due % 1000000000ull)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        answered += count_answers(fd, per_write ? answer : "\n", 0);
        for (uint64_t limit = now_ns() + PATIENCE_NS; answered < per_write * (i - UNANSWERED);) {
            answered += count_answers(fd, answer, 10);
            if (now_ns() > limit) fail("the server answers no more");
        }
        uint64_t now = now_ns();
        late[i] = now - due;
        write_stamps(now);
        write_numbers(cycle);
        write_all(fd, content, content_bytes);
    }
    if (!per_write) answered = 0;
    for (uint64_t limit = now_ns() + PATIENCE_NS; answered < per_write * count && now_ns() < limit;)
        answered += count_answers(fd, answer, 10);
    qsort(late, (size_t)count, sizeof *late, by_value);
    printf("writes=%ld events=%ld answered=%ld missing=%ld late_p99_us=%.1f elapsed_ms=%.1f cpu_us=%.1f\n", count,
           count * stamps.count, answered, per_write * count - answered, (double)late[count * 99 / 100] / 1e3,
           (double)(now_ns() - begin) / 1e6, (double)cpu_ns() / 1e3);
    close(fd);
    return 0;
}
