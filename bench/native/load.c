/* WebSocket subscribers: opens many, reads and counts exactly what they get, and says how late it is.
 *
 *   load PORT [--addresses N] [--header "NAME: VALUE"]... [--send TEXT] [--send-binary TEXT] [--receive-buffer BYTES]
 *             [--ping TEXT --pong TEXT]
 *
 * --send: the first message of each connection. --ping: a message that begins or ends so is answered with --pong.
 *
 * An event is an occurrence of `"stamp":` with 19 digits in a data frame, whatever else is in it; several may come in
 * one frame (NATS), and several frames in one read. Commands are lines on stdin, each answered by one line on stdout:
 *
 *   path PATH                          what is asked for from now on; `{i}` in it becomes the connection's number,
 *                                      `{i%N}` its remainder by N
 *   open TOTAL WINDOW EVENTS LIMIT_MS  until TOTAL are open and each got EVENTS, at most WINDOW of them under way
 *   await EVENTS LIMIT_MS              until that many events have come since the last reset
 *   count                              what has come since the last reset
 *   reset                              start counting again
 *   throttle BYTES                     each connection reads at most BYTES every 10 ms from now on; -1: without limit
 *   close                              close all connections
 */
#include "histogram.h"
#include "net.h"

#include <endian.h>
#include <stdbool.h>

#define BUFFER_BYTES 4194304
#define READ_BYTES 262144
#define MAX_CONNECTIONS 65536
#define TICK_MS 10
#define STAMP "\"stamp\":"
#define STAMP_BYTES (sizeof STAMP - 1)

enum state { CLOSED, CONNECTING, UPGRADING, OPEN };

struct connection {
    int fd;
    enum state state;
    bool ready;
    uint32_t events, kept_bytes;
    uint8_t *kept; /* the beginning of a frame whose end has not come yet */
    uint64_t begun_ns;
};

struct counts {
    uint64_t events, messages, bytes, reads, pings, fragments, malformed;
};

struct pending {
    enum { NOTHING, OPENING, AWAITING } what;
    uint64_t begun_ns, deadline_ns, events;
    int total, window;
};

static struct connection connections[MAX_CONNECTIONS];
static struct counts counts;
static struct histogram latencies, openings;
static struct pending pending;
static int port, addresses = 1, receive_buffer, epoll;
static int started, ready, refused, lost, events_until_ready;
static long throttle = -1;
static uint64_t reset_ns, reset_cpu_ns;
static char path[8192] = "/", headers[4096];
static const char *first_message;
static const char *ping = "", *pong = "";
static uint8_t first_opcode;
static uint8_t buffer[BUFFER_BYTES];

static void set_interest(struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    epoll_ctl(epoll, operation, connection->fd, &event);
}

static void end(struct connection *connection) {
    if (connection->state == OPEN) lost++;
    else refused++;
    if (connection->ready) ready--;
    close(connection->fd);
    free(connection->kept);
    *connection = (struct connection){0};
}

static void note_ready(struct connection *connection) {
    if (connection->ready || connection->state != OPEN || connection->events < (uint32_t)events_until_ready) return;
    connection->ready = true;
    ready++;
    record(&openings, now_ns() - connection->begun_ns);
}

static void start(int number) {
    struct connection *connection = &connections[number];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0) fail("no socket for connection %d: %s", number, strerror(errno));
    if (receive_buffer) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in from = loopback(INADDR_LOOPBACK + (uint32_t)(number % addresses), 0);
    struct sockaddr_in to = loopback(INADDR_LOOPBACK, port);
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) fail("cannot bind: %s", strerror(errno));
    *connection = (struct connection){.fd = fd, .state = CONNECTING, .begun_ns = now_ns()};
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        end(connection);
        return;
    }
    set_nodelay(fd);
    set_interest(connection, EPOLL_CTL_ADD, EPOLLOUT);
}

static void start_more(void) {
    while (started < pending.total && started - ready - refused - lost < pending.window) start(started++);
}

static bool send_all(struct connection *connection, const void *data, size_t bytes) {
    if (send(connection->fd, data, bytes, MSG_NOSIGNAL) == (ssize_t)bytes) return true;
    end(connection);
    return false;
}

/* A masked frame, with a mask of zeros. */
static bool send_frame(struct connection *connection, uint8_t opcode, const void *data, size_t bytes) {
    uint8_t frame[4096 + 8] = {(uint8_t)(0x80 | opcode)};
    size_t at = 2;
    if (bytes > 4096) fail("a message of %zu bytes is too long", bytes);
    if (bytes < 126) frame[1] = (uint8_t)(0x80 | bytes);
    else frame[1] = 0x80 | 126, frame[2] = (uint8_t)(bytes >> 8), frame[3] = (uint8_t)bytes, at = 4;
    at += 4;
    memcpy(frame + at, data, bytes);
    return send_all(connection, frame, at + bytes);
}

/* The path with the connection's number where it asks for that. */
static void write_path(char *asked, size_t size, long number) {
    const char *mark = strstr(path, "{i"), *end = mark ? strchr(mark, '}') : NULL;
    if (end && mark[2] == '%' && atol(mark + 3) > 0) number %= atol(mark + 3);
    if (end) snprintf(asked, size, "%.*s%ld%s", (int)(mark - path), path, number, end + 1);
    else snprintf(asked, size, "%s", path);
}

static void request_upgrade(struct connection *connection) {
    char request[16384], asked[8192 + 16];
    write_path(asked, sizeof asked, connection - connections);
    int bytes = snprintf(request, sizeof request,
                         "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " HANDSHAKE_KEY "\r\n%s\r\n",
                         asked, port, headers);
    connection->state = UPGRADING;
    set_interest(connection, EPOLL_CTL_MOD, EPOLLIN);
    send_all(connection, request, (size_t)bytes);
}

/* How much of `data` was the answer to the upgrade; 0 while it is not whole. Ends the connection if it is a refusal. */
static size_t take_answer(struct connection *connection, const uint8_t *data, size_t bytes) {
    const uint8_t *tail = memmem(data, bytes, "\r\n\r\n", 4);
    if (!tail) return 0;
    size_t head = (size_t)(tail - data) + 4;
    if (memcmp(data, "HTTP/1.1 101", 12) || !memmem(data, head, HANDSHAKE_ACCEPT, sizeof HANDSHAKE_ACCEPT - 1)) {
        end(connection);
        return head;
    }
    connection->state = OPEN;
    if (first_message) send_frame(connection, first_opcode, first_message, strlen(first_message));
    return head;
}

static void take_events(struct connection *connection, const uint8_t *data, size_t bytes, uint64_t now) {
    const uint8_t *end = data + bytes;
    while ((data = memmem(data, (size_t)(end - data), STAMP, STAMP_BYTES))) {
        data += STAMP_BYTES;
        if (end - data < STAMP_DIGITS) break;
        uint64_t stamp = 0;
        for (int i = 0; i < STAMP_DIGITS; i++) stamp = stamp * 10 + (uint64_t)(data[i] - '0');
        stamp -= STAMP_BASE;
        record(&latencies, now > stamp ? now - stamp : 0);
        counts.events++;
        connection->events++;
    }
}

static void answer_ping(struct connection *connection, const uint8_t *data, size_t bytes) {
    size_t length = strlen(ping);
    if (!length || bytes < length) return;
    if (!memcmp(data, ping, length) || !memcmp(data + bytes - length, ping, length))
        send_frame(connection, first_opcode, pong, strlen(pong));
}

static void take_frame(struct connection *connection, uint8_t first, const uint8_t *data, size_t bytes, uint64_t now) {
    uint8_t opcode = first & 0x0f;
    if (opcode == 9) {
        counts.pings++;
        send_frame(connection, 10, data, bytes);
    } else if (opcode <= 2) {
        counts.messages++;
        if (opcode == 0 || !(first & 0x80)) counts.fragments++;
        take_events(connection, data, bytes, now);
        answer_ping(connection, data, bytes);
    } else if (opcode != 10 && opcode != 8) {
        counts.malformed++;
    }
}

/* How much of `data` was whole frames. */
static size_t take_frames(struct connection *connection, const uint8_t *data, size_t bytes, uint64_t now) {
    size_t done = 0;
    while (connection->state == OPEN && bytes - done >= 2) {
        const uint8_t *frame = data + done;
        size_t head = 2, length = frame[1] & 0x7f, left = bytes - done;
        if (length == 126) {
            if (left < (head = 4)) break;
            length = (size_t)frame[2] << 8 | frame[3];
        } else if (length == 127) {
            uint64_t wide;
            if (left < (head = 10)) break;
            memcpy(&wide, frame + 2, 8);
            length = be64toh(wide);
        }
        if (frame[1] & 0x80) counts.malformed++;
        if (left - head < length) break;
        take_frame(connection, frame[0], frame + head, length, now);
        done += head + length;
        counts.bytes += head + length;
    }
    return done;
}

static void keep(struct connection *connection, const uint8_t *data, size_t bytes) {
    if (bytes) {
        connection->kept = realloc(connection->kept, bytes);
        memcpy(connection->kept, data, bytes);
    } else if (connection->kept) {
        free(connection->kept);
        connection->kept = NULL;
    }
    connection->kept_bytes = (uint32_t)bytes;
}

static void read_from(struct connection *connection, size_t at_most) {
    size_t held = connection->kept_bytes, done = 0;
    if (held + at_most > sizeof buffer) fail("a frame is longer than %zu bytes", sizeof buffer - at_most);
    if (held) memcpy(buffer, connection->kept, held);
    ssize_t got = recv(connection->fd, buffer + held, at_most, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) end(connection);
        return;
    }
    uint64_t now = now_ns();
    size_t bytes = held + (size_t)got;
    counts.reads++;
    if (connection->state == UPGRADING) done = take_answer(connection, buffer, bytes);
    if (connection->state == OPEN) done += take_frames(connection, buffer + done, bytes - done, now);
    if (connection->state == CLOSED) return;
    if (held || done < bytes) keep(connection, buffer + done, bytes - done);
    note_ready(connection);
}

static void handle(struct connection *connection, uint32_t events) {
    if (connection->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) end(connection);
        else request_upgrade(connection);
    } else if (connection->state != CLOSED && throttle < 0) {
        read_from(connection, READ_BYTES);
    } else if (connection->state != CLOSED && events & (EPOLLHUP | EPOLLERR)) {
        end(connection);
    }
}

static void set_throttle(long bytes) {
    throttle = bytes;
    for (int i = 0; i < started; i++)
        if (connections[i].state == OPEN) set_interest(&connections[i], EPOLL_CTL_MOD, bytes < 0 ? EPOLLIN : 0);
}

static void read_throttled(void) {
    for (int i = 0; i < started; i++)
        if (connections[i].state == OPEN) read_from(&connections[i], (size_t)throttle);
}

/* Acknowledge as a client does that has answered a ping, once a second: its kernel takes the connection for interactive
 * and delays acknowledgements, until nothing has come for 40 ms. Which of the two it does changes what a send costs the
 * server by a quarter, and would otherwise hang on when each server last pinged and on hiccups of the machine. */
static void acknowledge_late(void) {
    static uint64_t next_ns;
    int off = 0;
    if (now_ns() < next_ns) return;
    next_ns = now_ns() + 1000000000;
    for (int i = 0; i < started; i++)
        if (connections[i].state == OPEN) setsockopt(connections[i].fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
}

static void reset(void) {
    counts = (struct counts){0};
    memset(&latencies, 0, sizeof latencies);
    reset_ns = now_ns();
    reset_cpu_ns = cpu_ns();
}

static void answer(void) {
    uint64_t now = now_ns();
    printf("ready=%d refused=%d lost=%d events=%llu messages=%llu bytes=%llu reads=%llu pings=%llu fragments=%llu "
           "malformed=%llu cpu_us=%.1f elapsed_us=%.1f p50_us=%.1f p90_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.1f "
           "opening_us=%.1f opened_p50_us=%.1f opened_p99_us=%.1f opened_max_us=%.1f\n",
           ready, refused, lost, (unsigned long long)counts.events, (unsigned long long)counts.messages,
           (unsigned long long)counts.bytes, (unsigned long long)counts.reads, (unsigned long long)counts.pings,
           (unsigned long long)counts.fragments, (unsigned long long)counts.malformed,
           (double)(cpu_ns() - reset_cpu_ns) / 1e3, (double)(now - reset_ns) / 1e3, percentile_us(&latencies, 0.5),
           percentile_us(&latencies, 0.9), percentile_us(&latencies, 0.99), percentile_us(&latencies, 0.999),
           (double)latencies.max / 1e3, (double)(now - pending.begun_ns) / 1e3, percentile_us(&openings, 0.5),
           percentile_us(&openings, 0.99), (double)openings.max / 1e3);
    fflush(stdout);
}

static void close_all(void) {
    for (int i = 0; i < started; i++) {
        if (connections[i].state != CLOSED) close(connections[i].fd);
        free(connections[i].kept);
        connections[i] = (struct connection){0};
    }
    started = ready = refused = lost = 0;
}

static void wait_for(int what, uint64_t events, long limit_ms) {
    pending.what = what;
    pending.events = events;
    pending.begun_ns = now_ns();
    pending.deadline_ns = pending.begun_ns + (uint64_t)limit_ms * 1000000ull;
}

static void obey(char *line) {
    unsigned long long events;
    long limit_ms, bytes;
    int total, window, each;
    if (sscanf(line, "open %d %d %d %ld", &total, &window, &each, &limit_ms) == 4) {
        if (total > MAX_CONNECTIONS) fail("at most %d connections", MAX_CONNECTIONS);
        events_until_ready = each;
        memset(&openings, 0, sizeof openings);
        pending.total = total;
        pending.window = window;
        wait_for(OPENING, 0, limit_ms);
        return;
    }
    if (sscanf(line, "await %llu %ld", &events, &limit_ms) == 2) {
        wait_for(AWAITING, events, limit_ms);
        return;
    }
    if (sscanf(line, "throttle %ld", &bytes) == 1) set_throttle(bytes < READ_BYTES ? bytes : READ_BYTES);
    else if (!strncmp(line, "path ", 5)) snprintf(path, sizeof path, "%s", line + 5);
    else if (!strcmp(line, "reset")) reset();
    else if (!strcmp(line, "close")) close_all();
    else if (strcmp(line, "count")) fail("what does `%s` mean?", line);
    answer();
}

static void read_commands(void) {
    static char text[16384];
    static size_t bytes;
    ssize_t got = read(STDIN_FILENO, text + bytes, sizeof text - bytes);
    if (got <= 0) exit(0);
    bytes += (size_t)got;
    for (char *newline; (newline = memchr(text, '\n', bytes));) {
        *newline = 0;
        obey(text);
        bytes -= (size_t)(newline + 1 - text);
        memmove(text, newline + 1, bytes);
    }
}

/* The answer to a command that takes time, once it is done or overdue. */
static void advance(void) {
    if (pending.what == NOTHING) return;
    bool done = counts.events >= pending.events;
    if (pending.what == OPENING) {
        start_more();
        done = started >= pending.total && ready + refused + lost >= started;
    }
    if (done || now_ns() >= pending.deadline_ns) {
        pending.what = NOTHING;
        answer();
    }
}

static void take_arguments(int argc, char **argv) {
    if (argc < 2 || argc % 2) fail("usage: load PORT [--NAME VALUE]...");
    port = atoi(argv[1]);
    for (int i = 2; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        size_t used = strlen(headers);
        if (!strcmp(name, "--addresses")) addresses = atoi(value);
        else if (!strcmp(name, "--header")) snprintf(headers + used, sizeof headers - used, "%s\r\n", value);
        else if (!strcmp(name, "--send")) first_message = value, first_opcode = 1;
        else if (!strcmp(name, "--send-binary")) first_message = value, first_opcode = 2;
        else if (!strcmp(name, "--ping")) ping = value;
        else if (!strcmp(name, "--pong")) pong = value;
        else if (!strcmp(name, "--receive-buffer")) receive_buffer = atoi(value);
        else fail("what does %s mean?", name);
    }
}

int main(int argc, char **argv) {
    take_arguments(argc, argv);
    raise_file_limit();
    epoll = epoll_create1(0);
    struct epoll_event control = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &control);
    reset();
    for (;;) {
        struct epoll_event events[512];
        int wait_ms = throttle > 0 ? TICK_MS : pending.what != NOTHING ? 50 : 1000;
        int count = epoll_wait(epoll, events, 512, wait_ms);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) handle(events[i].data.ptr, events[i].events);
            else read_commands();
        }
        if (throttle > 0) read_throttled();
        acknowledge_late();
        advance();
    }
}
