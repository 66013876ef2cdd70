/* The floor: what one send() of a ready frame per connection costs, and nothing else.
 *
 *   floor PORT CONTROL_PORT
 *
 * Subscribers upgrade on PORT. A publisher connects to CONTROL_PORT and sends blocks: four bytes of length (big
 * endian), then that many bytes, which go to every subscriber as they are, in one send().
 */
#include "net.h"

#define MAX_FDS 1048576
#define BLOCK_BYTES 4194304

enum { UNKNOWN, UPGRADING, OPEN, CONTROL };

static uint8_t state[MAX_FDS];
static int subscribers[MAX_FDS], place[MAX_FDS], subscribed;
static uint8_t block[BLOCK_BYTES];
static size_t block_bytes;

static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Accept: " HANDSHAKE_ACCEPT "\r\n\r\n";

static void accept_all(int epoll, int listener, uint8_t as) {
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
        set_nonblocking(fd);
        set_nodelay(fd);
        state[fd] = as;
        watch(epoll, fd);
    }
}

static void leave(int fd) {
    if (state[fd] == OPEN) {
        int last = subscribers[--subscribed];
        subscribers[place[fd]] = last;
        place[last] = place[fd];
    }
    state[fd] = UNKNOWN;
    close(fd);
}

static void serve_subscriber(int fd) {
    char request[4096];
    ssize_t got = recv(fd, request, sizeof request, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) leave(fd);
    } else if (state[fd] == UPGRADING && memmem(request, (size_t)got, "\r\n\r\n", 4)) {
        if (send(fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) return;
        state[fd] = OPEN;
        place[fd] = subscribed;
        subscribers[subscribed++] = fd;
    }
}

static void publish(const uint8_t *data, size_t bytes) {
    for (int i = 0; i < subscribed; i++) send(subscribers[i], data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void serve_publisher(int fd) {
    ssize_t got = recv(fd, block + block_bytes, sizeof block - block_bytes, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) leave(fd), block_bytes = 0;
        return;
    }
    block_bytes += (size_t)got;
    size_t done = 0;
    while (block_bytes - done >= 4) {
        uint32_t length;
        memcpy(&length, block + done, 4);
        length = ntohl(length);
        if (length > sizeof block - 4) fail("a block of %u bytes is too long", length);
        if (block_bytes - done - 4 < length) break;
        publish(block + done + 4, length);
        done += 4 + length;
    }
    memmove(block, block + done, block_bytes -= done);
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage: floor PORT CONTROL_PORT");
    raise_file_limit();
    int epoll = epoll_create1(0), listener = listen_on(atoi(argv[1])), control = listen_on(atoi(argv[2]));
    watch(epoll, listener);
    watch(epoll, control);
    for (;;) {
        struct epoll_event events[512];
        int count = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_all(epoll, fd, UPGRADING);
            else if (fd == control) accept_all(epoll, fd, CONTROL);
            else if (state[fd] == CONTROL) serve_publisher(fd);
            else if (state[fd] != UNKNOWN) serve_subscriber(fd);
        }
    }
}
