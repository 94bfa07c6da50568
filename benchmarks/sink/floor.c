/* What the sink and the loopback device can take: keep-alive PUTs with the head of a signed request, and nothing else.
 *
 *     floor HOST PORT CONNECTIONS REQUESTS SIZE [CA]
 *
 * One thread, one epoll; no signature and no checksum is computed and no file is read, so no client can be cheaper.
 * Prints requests per second, and CPU seconds of this process per request, as JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define PIECE (256 * 1024)

struct connection {
    int fd;
    SSL *ssl;
    bool busy;
    size_t head_size, sent, got;
    char head[1024], answer[2048];
};

static struct connection connections[CONNECTIONS_MAX];
static char piece[PIECE];
static const char *host;
static long begun = 0, answered = 0, requests;
static size_t size;
static int port;

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void begin(struct connection *c) {
    c->busy = begun < requests;
    if (!c->busy) return;
    long number = begun++;
    c->head_size = (size_t)snprintf(
        c->head, sizeof c->head,
        "PUT /bucket/floor/%06ld HTTP/1.1\r\nHost: %s:%d\r\nx-amz-checksum-crc32: AAAAAA==\r\n"
        "x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nx-amz-date: 20260101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 "
        "Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;x-amz-checksum-crc32;x-amz-content-sha256;x-amz-date, "
        "Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\nContent-Length: %zu\r\n\r\n",
        number, host, port, size);
    c->sent = c->got = 0;
}

/* Sends what it can; small requests leave in one call. */
static void push(struct connection *c) {
    while (c->busy && c->sent < c->head_size + size) {
        ssize_t sent;
        size_t at = c->sent, left = c->head_size + size - at;
        if (c->ssl) {
            static char whole[sizeof c->head + PIECE];
            size_t now = 0;
            if (at < c->head_size) memcpy(whole, c->head + at, now = c->head_size - at);
            size_t more = left - now < 16384 ? left - now : 16384;
            memcpy(whole + now, piece, more);
            sent = SSL_write(c->ssl, whole, (int)(now + more));
            if (sent <= 0) {
                if (SSL_get_error(c->ssl, (int)sent) == SSL_ERROR_WANT_WRITE) return;
                die("SSL_write");
            }
        } else {
            struct iovec parts[2];
            int n = 0;
            if (at < c->head_size) parts[n++] = (struct iovec){c->head + at, c->head_size - at}, left -= c->head_size - at;
            parts[n++] = (struct iovec){piece, left < PIECE ? left : PIECE};
            struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)n};
            sent = sendmsg(c->fd, &message, MSG_NOSIGNAL);
            if (sent < 0) {
                if (errno == EAGAIN) return;
                die("send");
            }
        }
        c->sent += (size_t)sent;
    }
}

static void pull(struct connection *c) {
    for (;;) {
        size_t room = sizeof c->answer - 1 - c->got;
        ssize_t got = c->ssl ? SSL_read(c->ssl, c->answer + c->got, (int)room) : recv(c->fd, c->answer + c->got, room, 0);
        if (got <= 0) {
            if (c->ssl ? SSL_get_error(c->ssl, (int)got) == SSL_ERROR_WANT_READ : got < 0 && errno == EAGAIN) return;
            die("the sink hung up");
        }
        c->got += (size_t)got;
        c->answer[c->got] = 0;
        if (!strstr(c->answer, "\r\n\r\n")) continue;
        if (strncmp(c->answer, "HTTP/1.1 200", 12)) die(c->answer);
        answered++;
        begin(c);
        push(c);
        if (!c->ssl && (size_t)got < room) return;
    }
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "usage: floor HOST PORT CONNECTIONS REQUESTS SIZE [CA]\n");
        return 2;
    }
    host = argv[1];
    port = atoi(argv[2]);
    int n = atoi(argv[3]);
    requests = atol(argv[4]);
    size = (size_t)atoll(argv[5]);
    if (n < 1 || n > CONNECTIONS_MAX) return 2;
    SSL_CTX *tls = NULL;
    if (argc > 6) {
        tls = SSL_CTX_new(TLS_client_method());
        if (SSL_CTX_load_verify_locations(tls, argv[6], NULL) != 1) die("CA");
        SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_mode(tls, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE);
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("HOST must be an IPv4 address");
    int epoll = epoll_create1(0), one = 1;
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int at = 0; at < n; at++) {
        struct connection *c = &connections[at];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (tls) {
            c->ssl = SSL_new(tls);
            SSL_set_fd(c->ssl, c->fd);
            if (SSL_connect(c->ssl) != 1) die("TLS handshake");
        }
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
        begin(c);
    }
    while (answered < requests) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int at = 0; at < ready; at++) {
            push(events[at].data.ptr);
            pull(events[at].data.ptr);
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double wall = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"per_second\": %.0f, \"wall_s\": %.4f, \"cpu_s\": %.4f}\n", (double)requests / wall, wall, cpu);
    return 0;
}
