/* A JSON-RPC backend that is asked, not measured: answers at once, and notes when each of its methods is asked for.
 *
 *   backend PORT METHODS PERIOD_MS
 *
 * Takes POSTs with a Content-Length, single calls and batches, of the methods `m0` to `m<METHODS-1>`. A line on stdin
 * is answered with one on stdout: how many calls and requests came since the last line, and how far the time between
 * two calls of one method was from PERIOD_MS.
 */
#include "histogram.h"
#include "net.h"


#define MAX_FDS 65536
#define MAX_METHODS 65536
#define REQUEST_BYTES 4194304

struct client {
    char *request;
    size_t bytes, room;
};

static struct client clients[MAX_FDS];
static uint64_t asked_ns[MAX_METHODS];
static struct histogram jitter;
static uint64_t calls, requests, period_ns;
static int methods;
static char answer[REQUEST_BYTES];

static void note(int method, uint64_t now) {
    calls++;
    if (method < 0 || method >= methods) fail("method m%d was asked for", method);
    if (asked_ns[method]) {
        uint64_t passed = now - asked_ns[method];
        record(&jitter, passed > period_ns ? passed - period_ns : period_ns - passed);
    }
    asked_ns[method] = now;
}

/* The answer to one call after the other, in `body`; an id is whatever stands between `"id":` and what follows it. */
static size_t answer_calls(const char *body, const char *end, char *out) {
    char *begin = out;
    int batch = body < end && *body == '[';
    uint64_t now = now_ns();
    const char *method = body;
    if (batch) *out++ = '[';
    while ((method = memmem(method, (size_t)(end - method), "\"method\":\"m", 11))) {
        const char *from = method;
        while (from > body && *from != '{') from--;
        const char *id = memmem(from, (size_t)(end - from), "\"id\":", 5);
        if (!id) fail("a call without an id");
        id += 5;
        int number = atoi(method + 11), width = (int)strcspn(id, ",}");
        note(number, now);
        out += sprintf(out, "%s{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"value\":%llu,\"name\":\"m%d\"}}",
                       out - begin > 1 ? "," : "", width, id, (unsigned long long)calls, number);
        method += 11;
    }
    if (batch) *out++ = ']';
    return (size_t)(out - begin);
}

static void respond(int fd, const char *body, size_t bytes) {
    char head[256];
    size_t length = answer_calls(body, body + bytes, answer);
    int head_bytes = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", length);
    requests++;
    send(fd, head, (size_t)head_bytes, MSG_NOSIGNAL | MSG_MORE);
    for (size_t sent = 0; sent < length;) {
        ssize_t more = send(fd, answer + sent, length - sent, MSG_NOSIGNAL);
        if (more < 0) return;
        sent += (size_t)more;
    }
}

static void leave(int fd) {
    free(clients[fd].request);
    clients[fd] = (struct client){0};
    close(fd);
}

static void serve(int fd) {
    struct client *client = &clients[fd];
    if (client->room - client->bytes < 65536) {
        client->room = client->room ? client->room * 2 : 131072;
        if (client->room > REQUEST_BYTES) fail("a request is too long");
        client->request = realloc(client->request, client->room);
    }
    ssize_t got = recv(fd, client->request + client->bytes, client->room - client->bytes - 1, 0);
    if (got <= 0) {
        leave(fd);
        return;
    }
    client->bytes += (size_t)got;
    client->request[client->bytes] = 0;
    char *tail = strstr(client->request, "\r\n\r\n"), *length = strcasestr(client->request, "\r\ncontent-length:");
    if (!tail) return;
    if (!length || length > tail) fail("a request without Content-Length");
    size_t body_bytes = strtoul(length + 17, NULL, 10), head_bytes = (size_t)(tail + 4 - client->request);
    if (client->bytes < head_bytes + body_bytes) return;
    respond(fd, tail + 4, body_bytes);
    client->bytes = 0; /* no client of ours sends a request before it has the last answer */
}

static void report(void) {
    char line[64];
    if (read(STDIN_FILENO, line, sizeof line) <= 0) exit(0);
    printf("calls=%llu requests=%llu jitter_p50_us=%.1f jitter_p99_us=%.1f jitter_max_us=%.1f\n",
           (unsigned long long)calls, (unsigned long long)requests, percentile_us(&jitter, 0.5),
           percentile_us(&jitter, 0.99), (double)jitter.max / 1e3);
    fflush(stdout);
    memset(&jitter, 0, sizeof jitter);
    calls = requests = 0;
}

int main(int argc, char **argv) {
    if (argc != 4) fail("usage: backend PORT METHODS PERIOD_MS");
    methods = atoi(argv[2]);
    period_ns = strtoull(argv[3], NULL, 10) * 1000000ull;
    if (methods > MAX_METHODS) fail("at most %d methods", MAX_METHODS);
    int epoll = epoll_create1(0), listener = listen_on(atoi(argv[1]));
    watch(epoll, listener);
    watch(epoll, STDIN_FILENO);
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO) {
                report();
            } else if (fd != listener) {
                serve(fd);
            } else if ((fd = accept(listener, NULL, NULL)) >= 0) {
                set_nodelay(fd);
                watch(epoll, fd);
            }
        }
    }
}
