/* An S3 endpoint that takes everything and keeps nothing but names, sizes and checksums.
 *
 * It exists to measure clients against: it must cost so little that what is measured is the client. One thread accepts,
 * the others each have an epoll of their own; bodies that nobody needs to see are thrown away inside the kernel.
 *
 * What it does: path-style PUT, HEAD, DELETE of objects, multipart uploads, the listings a client may ask for (objects
 * are never listed), aws-chunked bodies with trailers, Expect: 100-continue, TLS, a latency for every answer. What it
 * does not: signatures, MD5, conditional writes, copies, GET of an object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define SCRATCH (256 * 1024)
#define HEAD_MAX (64 * 1024)
#define SKIP_MAX (1024 * 1024)
#define LINE_MAX_ 512
#define BUCKETS_MAX 16
#define THREADS_MAX 64

enum kind {
    PUT_OBJECT, UPLOAD_PART, CREATE_UPLOAD, COMPLETE_UPLOAD, ABORT_UPLOAD, LIST_PARTS, LIST_UPLOADS, LIST_OBJECTS,
    HEAD_OBJECT, HEAD_BUCKET, GET_LOCATION, DELETE_OBJECT, CREATE_BUCKET, STATS, RESET, OTHER, KINDS
};
static const char *const KIND_NAMES[KINDS] = {
    "put_object", "upload_part", "create_upload", "complete_upload", "abort_upload", "list_parts", "list_uploads",
    "list_objects", "head_object", "head_bucket", "get_location", "delete_object", "create_bucket", "stats", "reset",
    "other"};

/* --- options ---------------------------------------------------------------------------------- */

static int option_threads = 2;
static int64_t option_latency_ns = 0;
static bool option_verify = false;
static const char *option_buckets[BUCKETS_MAX];
static int n_buckets = 0;
static SSL_CTX *tls = NULL;

/* --- what is counted -------------------------------------------------------------------------- */

struct counters {
    _Atomic uint64_t requests[KINDS], errors, continues, bytes, asserted, trailers;
} __attribute__((aligned(64)));

static struct counters counted[THREADS_MAX];
static _Atomic int64_t connections = 0, connections_max = 0, connections_all = 0;

static void count(_Atomic uint64_t *counter, uint64_t by) {
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* --- what is stored: a table of names' hashes --------------------------------------------------- */

struct object {
    uint64_t name, size;
    uint8_t etag[16];
    uint32_t crc;
    uint8_t has_crc, parts_etag, used, deleted;
    time_t modified;
};

static struct object *objects = NULL;
static size_t objects_room = 0, objects_taken = 0, objects_live = 0;
static pthread_mutex_t objects_mutex = PTHREAD_MUTEX_INITIALIZER;

static struct object *object_slot(uint64_t name) {
    size_t at = (name ^ (name >> 29)) & (objects_room - 1);
    while (objects[at].used && objects[at].name != name) at = (at + 1) & (objects_room - 1);
    return &objects[at];
}

static void objects_grow(void) {
    struct object *before = objects;
    size_t room = objects_room;
    objects_room = room ? room * 2 : 1 << 14;
    objects = calloc(objects_room, sizeof *objects);
    if (!objects) abort();
    objects_taken = 0;
    for (size_t at = 0; at < room; at++)
        if (before[at].used && !before[at].deleted) *object_slot(before[at].name) = before[at], objects_taken++;
    free(before);
}

static void object_store(const struct object *new) {
    pthread_mutex_lock(&objects_mutex);
    if ((objects_taken + 1) * 2 > objects_room) objects_grow();
    struct object *slot = object_slot(new->name);
    if (!slot->used) objects_taken++;
    if (!slot->used || slot->deleted) objects_live++;
    *slot = *new;
    slot->used = 1;
    slot->deleted = 0;
    pthread_mutex_unlock(&objects_mutex);
}

static bool object_find(uint64_t name, struct object *found, bool take_away) {
    bool there = false;
    pthread_mutex_lock(&objects_mutex);
    if (objects_room) {
        struct object *slot = object_slot(name);
        there = slot->used && !slot->deleted;
        if (there) *found = *slot;
        if (there && take_away) slot->deleted = 1, objects_live--;
    }
    pthread_mutex_unlock(&objects_mutex);
    return there;
}

/* --- uploads in parts --------------------------------------------------------------------------- */

struct part {
    uint64_t size;
    uint32_t crc;
    bool has_crc, there;
    uint64_t etag;
};
struct upload {
    uint64_t id, name;
    int room;
    struct part *parts; /* by number, 1 to 10,000 */
    struct upload *next;
};

static struct upload *uploads = NULL;
static uint64_t uploads_open = 0;
static pthread_mutex_t uploads_mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t unique(void) { /* splitmix64 of a counter: ids that look like ids */
    static _Atomic uint64_t counter = 0;
    uint64_t x = (atomic_fetch_add(&counter, 1) + 1) * 0x9E3779B97F4A7C15u + (uint64_t)getpid();
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static struct upload **upload_find(uint64_t id, uint64_t name) { /* with uploads_mutex held */
    struct upload **at = &uploads;
    while (*at && ((*at)->id != id || (*at)->name != name)) at = &(*at)->next;
    return at;
}

static void upload_free(struct upload **at) {
    struct upload *gone = *at;
    *at = gone->next;
    free(gone->parts);
    free(gone);
    uploads_open--;
}

/* --- base64 of the few bytes of a checksum ------------------------------------------------------ */

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_decode(const char *text, uint8_t *out, int room) {
    uint32_t bits = 0;
    int have = 0, size = 0;
    for (; *text && *text != '='; text++) {
        const char *found = strchr(BASE64, *text);
        if (!found) return -1;
        bits = bits << 6 | (uint32_t)(found - BASE64);
        have += 6;
        if (have >= 8) {
            have -= 8;
            if (size == room) return -1;
            out[size++] = (uint8_t)(bits >> have);
        }
    }
    return size;
}

static void base64_crc(uint32_t crc, char out[9]) {
    uint64_t bits = (uint64_t)crc << 16;
    for (int at = 0; at < 6; at++) out[at] = BASE64[bits >> (42 - 6 * at) & 63];
    memcpy(out + 6, "==", 3);
}

static bool parse_crc(const char *text, uint32_t *crc) {
    uint8_t raw[4];
    if (base64_decode(text, raw, 4) != 4) return false;
    *crc = (uint32_t)raw[0] << 24 | (uint32_t)raw[1] << 16 | (uint32_t)raw[2] << 8 | raw[3];
    return true;
}

/* --- a connection ------------------------------------------------------------------------------- */

enum framing { SIZE, DATA, DATA_END, TRAILER, DONE };
struct chunks { /* one layer of chunked framing */
    enum framing state;
    uint64_t remaining;
    int length;
    char line[LINE_MAX_];
};

struct worker;
struct connection {
    int fd;
    SSL *ssl;
    struct worker *worker;
    bool readable, ended, held, closing, dead, in_body;
    int64_t due_ns;
    struct connection *before, *after; /* in the worker's queue of held answers */
    char *left;
    size_t n_left;
    char *out;
    size_t out_room, out_end, out_begin;
    /* the request at work */
    enum kind kind;
    bool head_only, http_chunked, aws_chunked, bad;
    uint64_t remaining; /* of a body with a length */
    struct chunks outer, inner;
    uint64_t name, size, upload_id, declared_size;
    int part_number;
    bool has_declared_size, has_md5, no_bucket;
    uint8_t md5[16];
    char algorithm[16], checksum[96];
    uint32_t crc;
};

struct worker {
    pthread_t thread;
    int epoll, number;
    struct connection *first_held, *last_held;
    char *scratch;
    char date[32];
    time_t date_of;
};
static struct worker workers[THREADS_MAX];

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void hold_remove(struct connection *c) {
    struct worker *w = c->worker;
    *(c->before ? &c->before->after : &w->first_held) = c->after;
    *(c->after ? &c->after->before : &w->last_held) = c->before;
    c->before = c->after = NULL;
    c->held = false;
}

static void hold(struct connection *c) { /* the latency is the same for all, so the queue is in order */
    struct worker *w = c->worker;
    c->held = true;
    c->due_ns = now_ns() + option_latency_ns;
    c->before = w->last_held;
    c->after = NULL;
    *(w->last_held ? &w->last_held->after : &w->first_held) = c;
    w->last_held = c;
}

static void finish(struct connection *c) {
    if (c->held) hold_remove(c);
    if (c->ssl) SSL_free(c->ssl);
    close(c->fd);
    free(c->left);
    free(c->out);
    free(c);
    atomic_fetch_sub(&connections, 1);
}

static void out(struct connection *c, const char *data, size_t size) {
    if (c->out_end + size > c->out_room) {
        c->out_room = (c->out_end + size) * 2;
        c->out = realloc(c->out, c->out_room);
        if (!c->out) abort();
    }
    memcpy(c->out + c->out_end, data, size);
    c->out_end += size;
}

/* True once nothing is left to send. */
static bool flush(struct connection *c) {
    while (c->out_begin < c->out_end) {
        ssize_t sent;
        if (c->ssl) {
            ERR_clear_error();
            sent = SSL_write(c->ssl, c->out + c->out_begin, (int)(c->out_end - c->out_begin));
            if (sent <= 0) {
                int why = SSL_get_error(c->ssl, (int)sent);
                if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) c->dead = true;
                return false;
            }
        } else {
            sent = send(c->fd, c->out + c->out_begin, c->out_end - c->out_begin, MSG_NOSIGNAL);
            if (sent < 0) {
                if (errno == EINTR) continue;
                if (errno != EAGAIN) c->dead = true;
                return false;
            }
        }
        c->out_begin += (size_t)sent;
    }
    c->out_begin = c->out_end = 0;
    return true;
}

/* Bytes read, 0 if there is none now. */
static size_t receive(struct connection *c, char *into, size_t room, int flags) {
    for (;;) {
        if (c->ssl) {
            ERR_clear_error();
            int got = SSL_read(c->ssl, into, (int)room);
            if (got > 0) return (size_t)got;
            int why = SSL_get_error(c->ssl, got);
            if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) c->readable = false;
            else c->dead = true;
            return 0;
        }
        ssize_t got = recv(c->fd, into, room, flags);
        if (got > 0) {
            if ((size_t)got < room && !c->ended) c->readable = false; /* the next byte is a new edge */
            return (size_t)got;
        }
        if (got == 0) c->dead = true;
        else if (errno == EINTR) continue;
        else if (errno == EAGAIN) c->readable = false;
        else c->dead = true;
        return 0;
    }
}

/* --- answers ------------------------------------------------------------------------------------ */

static const char *date_of(struct worker *w) {
    time_t now = time(NULL);
    if (now != w->date_of) {
        struct tm parts;
        gmtime_r(&now, &parts);
        strftime(w->date, sizeof w->date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
        w->date_of = now;
    }
    return w->date;
}

static void answer(struct connection *c, const char *status, const char *headers, const char *body, size_t size) {
    char head[1024];
    bool none = !strncmp(status, "204", 3);
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 %s\r\nServer: sink\r\nDate: %s\r\nx-amz-request-id: 0123456789ABCDEF\r\n%s%s", status,
                          date_of(c->worker), headers, c->closing ? "Connection: close\r\n" : "");
    if (!none && !strstr(headers, "Content-Length:"))
        length += snprintf(head + length, sizeof head - (size_t)length, "Content-Length: %zu\r\n", size);
    if (size) length += snprintf(head + length, sizeof head - (size_t)length, "Content-Type: application/xml\r\n");
    length += snprintf(head + length, sizeof head - (size_t)length, "\r\n");
    out(c, head, (size_t)length);
    if (size && !c->head_only) out(c, body, size);
}

static void answer_xml(struct connection *c, const char *status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void answer_xml(struct connection *c, const char *status, const char *format, ...) {
    char body[4096];
    static const char XML[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    memcpy(body, XML, sizeof XML - 1);
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(body + sizeof XML - 1, sizeof body - sizeof XML, format, arguments);
    va_end(arguments);
    answer(c, status, "", body, sizeof XML - 1 + (size_t)size);
}

static void refuse(struct connection *c, const char *status, const char *code) {
    count(&counted[c->worker->number].errors, 1);
    answer_xml(c, status, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code);
}

static void answer_stats(struct connection *c) {
    char body[4096];
    uint64_t requests[KINDS] = {0}, errors = 0, continues = 0, bytes = 0, asserted = 0, trailers = 0;
    for (int number = 0; number < option_threads; number++) {
        for (int kind = 0; kind < KINDS; kind++) requests[kind] += counted[number].requests[kind];
        errors += counted[number].errors;
        continues += counted[number].continues;
        bytes += counted[number].bytes;
        asserted += counted[number].asserted;
        trailers += counted[number].trailers;
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    size_t size = (size_t)snprintf(body, sizeof body, "{\"requests\":{");
    bool first = true;
    for (int kind = 0; kind < KINDS; kind++) {
        if (kind == STATS || kind == RESET) continue;
        size += (size_t)snprintf(body + size, sizeof body - size, "%s\"%s\":%llu", first ? "" : ",", KIND_NAMES[kind],
                                 (unsigned long long)requests[kind]);
        first = false;
    }
    pthread_mutex_lock(&objects_mutex);
    size_t live = objects_live;
    pthread_mutex_unlock(&objects_mutex);
    pthread_mutex_lock(&uploads_mutex);
    uint64_t open = uploads_open;
    pthread_mutex_unlock(&uploads_mutex);
    size += (size_t)snprintf(body + size, sizeof body - size,
                             "},\"objects\":%zu,\"parts\":%llu,\"bytes\":%llu,\"errors\":%llu,\"continues\":%llu,"
                             "\"asserted\":%llu,\"trailers\":%llu,\"uploads_open\":%llu,\"connections\":%lld,"
                             "\"connections_max\":%lld,\"cpu_s\":%.6f}\n",
                             live, (unsigned long long)requests[UPLOAD_PART], (unsigned long long)bytes,
                             (unsigned long long)errors, (unsigned long long)continues, (unsigned long long)asserted,
                             (unsigned long long)trailers, (unsigned long long)open, (long long)connections_all,
                             (long long)connections_max, cpu);
    answer(c, "200 OK", "", body, size);
}

static void reset(void) {
    memset(counted, 0, sizeof counted);
    atomic_store(&connections_max, atomic_load(&connections));
    atomic_store(&connections_all, atomic_load(&connections));
    pthread_mutex_lock(&objects_mutex);
    free(objects);
    objects = NULL;
    objects_room = objects_taken = objects_live = 0;
    pthread_mutex_unlock(&objects_mutex);
    pthread_mutex_lock(&uploads_mutex);
    while (uploads) upload_free(&uploads);
    pthread_mutex_unlock(&uploads_mutex);
}

static void hex(const uint8_t *bytes, int size, char *text) {
    for (int at = 0; at < size; at++) sprintf(text + 2 * at, "%02x", bytes[at]);
}

static void etag_text(const struct object *object, char text[48]) {
    hex(object->etag, 16, text);
    strcpy(text + 32, object->parts_etag ? "-1" : "");
}

static void put_object(struct connection *c) {
    struct object object = {.name = c->name, .size = c->size, .modified = time(NULL)};
    object.has_crc = !strcmp(c->algorithm, "crc32") && parse_crc(c->checksum, &object.crc);
    if (c->has_md5) {
        memcpy(object.etag, c->md5, 16);
    } else { /* we compute no MD5; the form of a multipart etag says that this is none */
        uint64_t half = unique();
        memcpy(object.etag, &half, 8);
        memcpy(object.etag + 8, &c->name, 8);
        object.parts_etag = 1;
    }
    object_store(&object);
    if (object.has_crc) count(&counted[c->worker->number].asserted, 1);
    char etag[48], headers[320];
    etag_text(&object, etag);
    int length = snprintf(headers, sizeof headers, "ETag: \"%s\"\r\n", etag);
    if (*c->checksum)
        snprintf(headers + length, sizeof headers - (size_t)length,
                 "x-amz-checksum-%s: %s\r\nx-amz-checksum-type: FULL_OBJECT\r\n", c->algorithm, c->checksum);
    answer(c, "200 OK", headers, NULL, 0);
}

static void upload_part(struct connection *c) {
    struct part part = {.size = c->size, .there = true, .etag = unique()};
    part.has_crc = !strcmp(c->algorithm, "crc32") && parse_crc(c->checksum, &part.crc);
    if (c->part_number < 1 || c->part_number > 10000) return refuse(c, "400 Bad Request", "InvalidArgument");
    pthread_mutex_lock(&uploads_mutex);
    struct upload *upload = *upload_find(c->upload_id, c->name);
    if (upload) {
        if (c->part_number >= upload->room) {
            int room = c->part_number * 2;
            upload->parts = realloc(upload->parts, (size_t)room * sizeof *upload->parts);
            if (!upload->parts) abort();
            memset(upload->parts + upload->room, 0, (size_t)(room - upload->room) * sizeof *upload->parts);
            upload->room = room;
        }
        upload->parts[c->part_number] = part;
    }
    pthread_mutex_unlock(&uploads_mutex);
    if (!upload) return refuse(c, "404 Not Found", "NoSuchUpload");
    char headers[320];
    int length = snprintf(headers, sizeof headers, "ETag: \"%016llx%016llx\"\r\n", (unsigned long long)part.etag,
                          (unsigned long long)part.etag);
    if (c->has_md5) { /* some clients compare it with what they sent */
        char md5[33];
        hex(c->md5, 16, md5);
        length = snprintf(headers, sizeof headers, "ETag: \"%s\"\r\n", md5);
    }
    if (*c->checksum)
        snprintf(headers + length, sizeof headers - (size_t)length, "x-amz-checksum-%s: %s\r\n", c->algorithm,
                 c->checksum);
    answer(c, "200 OK", headers, NULL, 0);
}

static void create_upload(struct connection *c) {
    struct upload *upload = calloc(1, sizeof *upload);
    if (!upload) abort();
    upload->id = unique();
    upload->name = c->name;
    pthread_mutex_lock(&uploads_mutex);
    upload->next = uploads;
    uploads = upload;
    uploads_open++;
    pthread_mutex_unlock(&uploads_mutex);
    answer_xml(c, "200 OK",
               "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><UploadId>%016llx"
               "</UploadId></InitiateMultipartUploadResult>",
               (unsigned long long)upload->id);
}

static void complete_upload(struct connection *c) {
    struct object object = {.name = c->name, .modified = time(NULL), .parts_etag = 1};
    bool known = true, any = false;
    uint32_t crc = (uint32_t)crc32(0, NULL, 0);
    pthread_mutex_lock(&uploads_mutex);
    struct upload **at = upload_find(c->upload_id, c->name);
    bool found = *at != NULL;
    for (int number = 1; found && number < (*at)->room; number++) {
        struct part *part = &(*at)->parts[number];
        if (!part->there) continue;
        any = true;
        object.size += part->size;
        known = known && part->has_crc;
        crc = (uint32_t)crc32_combine(crc, part->crc, (z_off_t)part->size);
    }
    uint32_t asserted = 0;
    bool asserts = !strcmp(c->algorithm, "crc32") && parse_crc(c->checksum, &asserted);
    const char *wrong = NULL;
    if (!any) wrong = "MalformedXML";
    else if (c->has_declared_size && c->declared_size != object.size) wrong = "InvalidRequest";
    else if (option_verify && asserts && known && asserted != crc) wrong = "BadDigest";
    if (found && !wrong) {
        memcpy(object.etag, &(*at)->id, 8);
        upload_free(at);
    }
    pthread_mutex_unlock(&uploads_mutex);
    if (!found) return refuse(c, "404 Not Found", "NoSuchUpload");
    if (wrong) return refuse(c, "400 Bad Request", wrong);
    object.has_crc = asserts || known;
    object.crc = asserts ? asserted : crc;
    object_store(&object);
    if (asserts) count(&counted[c->worker->number].asserted, 1);
    char etag[48], base64[9], checksum[160] = "";
    etag_text(&object, etag);
    if (object.has_crc) {
        base64_crc(object.crc, base64);
        snprintf(checksum, sizeof checksum, "<ChecksumCRC32>%s</ChecksumCRC32><ChecksumType>FULL_OBJECT</ChecksumType>",
                 base64);
    }
    answer_xml(c, "200 OK",
               "<CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ETag>&quot;%s&quot;"
               "</ETag>%s</CompleteMultipartUploadResult>",
               etag, checksum);
}

static void abort_upload(struct connection *c) {
    pthread_mutex_lock(&uploads_mutex);
    struct upload **at = upload_find(c->upload_id, c->name);
    bool found = *at != NULL;
    if (found) upload_free(at);
    pthread_mutex_unlock(&uploads_mutex);
    if (!found) return refuse(c, "404 Not Found", "NoSuchUpload");
    answer(c, "204 No Content", "", NULL, 0);
}

static void list_parts(struct connection *c) {
    char *body = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&body, &size);
    if (!text) abort();
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
          "<IsTruncated>false</IsTruncated>", text);
    pthread_mutex_lock(&uploads_mutex);
    struct upload *upload = *upload_find(c->upload_id, c->name);
    for (int number = 1; upload && number < upload->room; number++) {
        struct part *part = &upload->parts[number];
        if (!part->there) continue;
        fprintf(text, "<Part><PartNumber>%d</PartNumber><Size>%llu</Size><ETag>&quot;%016llx%016llx&quot;</ETag>", number,
                (unsigned long long)part->size, (unsigned long long)part->etag, (unsigned long long)part->etag);
        if (part->has_crc) {
            char base64[9];
            base64_crc(part->crc, base64);
            fprintf(text, "<ChecksumCRC32>%s</ChecksumCRC32>", base64);
        }
        fputs("</Part>", text);
    }
    pthread_mutex_unlock(&uploads_mutex);
    fputs("</ListPartsResult>", text);
    fclose(text);
    if (upload) answer(c, "200 OK", "", body, size);
    else refuse(c, "404 Not Found", "NoSuchUpload");
    free(body);
}

static void head_object(struct connection *c) {
    struct object object;
    if (!object_find(c->name, &object, false)) return refuse(c, "404 Not Found", "NoSuchKey");
    char etag[48], modified[40], headers[512];
    struct tm parts;
    gmtime_r(&object.modified, &parts);
    strftime(modified, sizeof modified, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    etag_text(&object, etag);
    int length = snprintf(headers, sizeof headers, "ETag: \"%s\"\r\nLast-Modified: %s\r\nContent-Length: %llu\r\n", etag,
                          modified, (unsigned long long)object.size);
    if (object.has_crc) {
        char base64[9];
        base64_crc(object.crc, base64);
        snprintf(headers + length, sizeof headers - (size_t)length,
                 "x-amz-checksum-crc32: %s\r\nx-amz-checksum-type: FULL_OBJECT\r\n", base64);
    }
    answer(c, "200 OK", headers, NULL, 0);
}

/* The whole request is here: answer it. */
static void respond(struct connection *c) {
    struct counters *mine = &counted[c->worker->number];
    struct object object;
    c->in_body = false;
    count(&mine->requests[c->kind], 1);
    if (c->kind == PUT_OBJECT || c->kind == UPLOAD_PART) {
        count(&mine->bytes, c->size);
        uint32_t asserted;
        if (option_verify && !strcmp(c->algorithm, "crc32") && (!parse_crc(c->checksum, &asserted) || asserted != c->crc))
            c->bad = true, refuse(c, "400 Bad Request", "BadDigest");
        else if (c->has_declared_size && c->declared_size != c->size)
            c->bad = true, refuse(c, "400 Bad Request", "IncompleteBody");
        if (c->bad) goto done;
    }
    if (c->no_bucket) {
        refuse(c, "404 Not Found", "NoSuchBucket");
        goto done;
    }
    switch (c->kind) {
        case PUT_OBJECT: put_object(c); break;
        case UPLOAD_PART: upload_part(c); break;
        case CREATE_UPLOAD: create_upload(c); break;
        case COMPLETE_UPLOAD: complete_upload(c); break;
        case ABORT_UPLOAD: abort_upload(c); break;
        case LIST_PARTS: list_parts(c); break;
        case HEAD_OBJECT: head_object(c); break;
        case LIST_UPLOADS:
            answer_xml(c, "200 OK",
                       "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                       "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>");
            break;
        case LIST_OBJECTS:
            answer_xml(c, "200 OK",
                       "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><KeyCount>0</KeyCount>"
                       "<IsTruncated>false</IsTruncated></ListBucketResult>");
            break;
        case GET_LOCATION:
            answer_xml(c, "200 OK", "<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>");
            break;
        case HEAD_BUCKET: answer(c, "200 OK", "x-amz-bucket-region: us-east-1\r\n", NULL, 0); break;
        case CREATE_BUCKET: answer(c, "200 OK", "", NULL, 0); break;
        case DELETE_OBJECT:
            object_find(c->name, &object, true);
            answer(c, "204 No Content", "", NULL, 0);
            break;
        case STATS: answer_stats(c); break;
        case RESET:
            reset();
            answer(c, "204 No Content", "", NULL, 0);
            break;
        default: refuse(c, "501 Not Implemented", "NotImplemented");
    }
done:
    if (option_latency_ns && c->kind != STATS && c->kind != RESET) hold(c);
}

static void give_up(struct connection *c, const char *status, const char *code) {
    c->closing = true;
    c->in_body = false;
    refuse(c, status, code);
}

/* --- bodies ------------------------------------------------------------------------------------- */

static void payload(struct connection *c, const char *data, size_t size) {
    c->size += size;
    if (option_verify && data) c->crc = (uint32_t)crc32_z(c->crc, (const uint8_t *)data, size);
}

static void checksum_header(struct connection *c, const char *name, size_t length, const char *value) {
    static const char PREFIX[] = "x-amz-checksum-";
    size_t prefix = sizeof PREFIX - 1;
    if (length <= prefix || strncasecmp(name, PREFIX, prefix)) return;
    if (length - prefix >= sizeof c->algorithm || strlen(value) >= sizeof c->checksum) return;
    if (!strncasecmp(name, "x-amz-checksum-type", length) || !strncasecmp(name, "x-amz-checksum-algorithm", length) ||
        !strncasecmp(name, "x-amz-checksum-mode", length))
        return;
    for (size_t at = 0; at < length - prefix; at++) c->algorithm[at] = (char)(name[prefix + at] | 0x20);
    c->algorithm[length - prefix] = 0;
    strcpy(c->checksum, value);
}

static void inner(struct connection *c, const char *data, size_t size);

/* Decode one layer; what is inside goes to the next. Data may be NULL for bytes that were thrown away unseen. */
static void dechunk(struct connection *c, struct chunks *layer, const char *data, size_t size,
                    void (*inside)(struct connection *, const char *, size_t), size_t *used) {
    size_t at = 0;
    while (at < size && layer->state != DONE && !c->bad) {
        if (layer->state == DATA) {
            size_t now = size - at < layer->remaining ? size - at : (size_t)layer->remaining;
            inside(c, data ? data + at : NULL, now);
            layer->remaining -= now;
            at += now;
            if (!layer->remaining) layer->state = DATA_END;
            continue;
        }
        char byte = data[at++];
        if (byte != '\n') {
            if (layer->length == LINE_MAX_ - 1) c->bad = true;
            else layer->line[layer->length++] = byte;
            continue;
        }
        if (layer->length && layer->line[layer->length - 1] == '\r') layer->length--;
        layer->line[layer->length] = 0;
        if (layer->state == DATA_END) {
            if (layer->length) c->bad = true;
            layer->state = SIZE;
        } else if (layer->state == SIZE) {
            char *end;
            layer->remaining = strtoull(layer->line, &end, 16);
            if (end == layer->line) c->bad = true;
            layer->state = layer->remaining ? DATA : TRAILER;
        } else if (!layer->length) {
            layer->state = DONE;
        } else {
            char *colon = strchr(layer->line, ':');
            if (colon) {
                char *value = colon + 1 + strspn(colon + 1, " \t");
                checksum_header(c, layer->line, (size_t)(colon - layer->line), value);
                count(&counted[c->worker->number].trailers, 1);
            }
        }
        layer->length = 0;
    }
    *used = at;
}

static void inner(struct connection *c, const char *data, size_t size) {
    size_t used;
    if (c->aws_chunked) dechunk(c, &c->inner, data, size, payload, &used);
    else payload(c, data, size);
}

/* Take what belongs to the body; answers once it is whole. */
static size_t body(struct connection *c, const char *data, size_t size) {
    size_t used = 0;
    bool whole;
    if (c->http_chunked) {
        dechunk(c, &c->outer, data, size, inner, &used);
        whole = c->outer.state == DONE;
    } else {
        used = size < c->remaining ? size : (size_t)c->remaining;
        if (used) inner(c, data, used);
        c->remaining -= used;
        whole = !c->remaining;
    }
    if (c->bad) {
        give_up(c, "400 Bad Request", "InvalidChunk");
    } else if (whole) {
        if (c->aws_chunked && c->inner.state != DONE) give_up(c, "400 Bad Request", "IncompleteBody");
        else respond(c);
    }
    return used;
}

/* How many of the next bytes nobody needs to see. */
static size_t skippable(const struct connection *c) {
    if (!c->in_body || option_verify || c->ssl) return 0;
    uint64_t skip = SKIP_MAX;
    if (c->http_chunked) skip = c->outer.state != DATA ? 0 : c->outer.remaining < skip ? c->outer.remaining : skip;
    else skip = c->remaining < skip ? c->remaining : skip;
    if (c->aws_chunked) skip = c->inner.state != DATA ? 0 : c->inner.remaining < skip ? c->inner.remaining : skip;
    return (size_t)skip;
}

/* --- heads -------------------------------------------------------------------------------------- */

static int unhex(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* FNV-1a of the decoded path, so that however a client encodes it, one name is one object. */
static uint64_t name_hash(const char *text, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t at = 0; at < size; at++) {
        uint8_t byte = (uint8_t)text[at];
        if (byte == '%' && at + 2 < size && unhex(text[at + 1]) >= 0 && unhex(text[at + 2]) >= 0) {
            byte = (uint8_t)(unhex(text[at + 1]) << 4 | unhex(text[at + 2]));
            at += 2;
        }
        hash = (hash ^ byte) * 0x100000001b3u;
    }
    return hash;
}

/* The value of a query's parameter, "" if it has none, NULL if it is not there. */
static const char *parameter(const char *query, const char *name) {
    size_t length = strlen(name);
    while (*query) {
        if (!strncmp(query, name, length)) {
            if (query[length] == '=') return query + length + 1;
            if (!query[length] || query[length] == '&') return query + length;
        }
        query = strchr(query, '&');
        if (!query) return NULL;
        query++;
    }
    return NULL;
}

static bool is(const char *text, size_t size, const char *what) { return size == strlen(what) && !memcmp(text, what, size); }

static enum kind kind_of(struct connection *c, const char *method, size_t size, bool key, const char *query) {
    const char *id = parameter(query, "uploadId"), *number = parameter(query, "partNumber");
    bool get = is(method, size, "GET"), put = is(method, size, "PUT"), post = is(method, size, "POST");
    bool delete = is(method, size, "DELETE");
    c->upload_id = id ? strtoull(id, NULL, 16) : 0;
    c->part_number = number ? atoi(number) : 0;
    c->head_only = is(method, size, "HEAD");
    if (key) {
        if (put) return id && number ? UPLOAD_PART : !*query || parameter(query, "x-id") ? PUT_OBJECT : OTHER;
        if (post) return id ? COMPLETE_UPLOAD : parameter(query, "uploads") ? CREATE_UPLOAD : OTHER;
        if (delete) return id ? ABORT_UPLOAD : DELETE_OBJECT;
        if (c->head_only) return HEAD_OBJECT;
        return get && id ? LIST_PARTS : OTHER;
    }
    if (c->head_only) return HEAD_BUCKET;
    if (put) return CREATE_BUCKET;
    if (!get) return OTHER;
    if (parameter(query, "uploads")) return LIST_UPLOADS;
    if (parameter(query, "location")) return GET_LOCATION;
    return LIST_OBJECTS;
}

/* A whole head of `size` bytes, the empty line included. */
static void head(struct connection *c, char *text, size_t size) {
    text[size - 1] = 0; /* over the last newline */
    char *line_end = strchr(text, '\n');
    char *target = memchr(text, ' ', (size_t)(line_end - text));
    char *target_end = target ? memchr(target + 1, ' ', (size_t)(line_end - target - 1)) : NULL;
    if (!target_end || target[1] != '/') return give_up(c, "400 Bad Request", "BadRequest");
    size_t method_size = (size_t)(target - text);
    target++;
    *target_end = 0;
    char *query = strchr(target, '?');
    if (query) *query++ = 0;
    else query = target_end;

    c->size = c->remaining = 0;
    c->http_chunked = c->aws_chunked = c->bad = c->has_md5 = c->has_declared_size = c->no_bucket = false;
    c->outer.state = c->inner.state = SIZE;
    c->outer.length = c->inner.length = 0;
    c->algorithm[0] = c->checksum[0] = 0;
    c->crc = (uint32_t)crc32(0, NULL, 0);
    bool expects = false, copies = false;

    for (char *line = line_end + 1; *line && *line != '\r' && *line != '\n';) {
        char *next = strchr(line, '\n');
        if (!next) next = line + strlen(line);
        char *end = next > line && next[-1] == '\r' ? next - 1 : next;
        char *colon = memchr(line, ':', (size_t)(end - line));
        bool last = !*next;
        if (colon) {
            *end = 0;
            size_t length = (size_t)(colon - line);
            char *value = colon + 1 + strspn(colon + 1, " \t");
#define HEADER(name) (length == sizeof name - 1 && !strncasecmp(line, name, length))
            switch (*line | 0x20) {
                case 'c':
                    if (HEADER("content-length")) c->remaining = strtoull(value, NULL, 10);
                    else if (HEADER("content-encoding")) c->aws_chunked |= strcasestr(value, "aws-chunked") != NULL;
                    else if (HEADER("content-md5")) c->has_md5 = base64_decode(value, c->md5, 16) == 16;
                    else if (HEADER("connection")) c->closing |= !strcasecmp(value, "close");
                    break;
                case 't':
                    if (HEADER("transfer-encoding")) c->http_chunked = strcasestr(value, "chunked") != NULL;
                    break;
                case 'e':
                    if (HEADER("expect")) expects = !strcasecmp(value, "100-continue");
                    break;
                case 'x':
                    if (HEADER("x-amz-content-sha256")) c->aws_chunked |= !strncmp(value, "STREAMING-", 10);
                    else if (HEADER("x-amz-decoded-content-length") || HEADER("x-amz-mp-object-size"))
                        c->has_declared_size = true, c->declared_size = strtoull(value, NULL, 10);
                    else if (HEADER("x-amz-copy-source")) copies = true;
                    else checksum_header(c, line, length, value);
            }
        }
        if (last) break;
        line = next + 1;
    }

    char *name = target + 1, *slash = strchr(name, '/');
    bool key = slash && slash[1];
    size_t bucket_size = slash ? (size_t)(slash - name) : strlen(name);
    if (is(target, strlen(target), "/_stats")) c->kind = STATS;
    else if (is(target, strlen(target), "/_reset")) c->kind = RESET;
    else {
        c->kind = kind_of(c, text, method_size, key, query);
        c->name = name_hash(name, strlen(name));
        c->no_bucket = n_buckets > 0;
        for (int at = 0; at < n_buckets; at++)
            if (is(name, bucket_size, option_buckets[at])) c->no_bucket = false;
    }
    if (copies || !bucket_size) c->kind = OTHER;
    if (c->http_chunked) c->remaining = 0;
    if (!c->http_chunked && !c->remaining) return respond(c);
    c->in_body = true;
    if (expects) {
        static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";
        count(&counted[c->worker->number].continues, 1);
        out(c, CONTINUE, sizeof CONTINUE - 1);
        if (option_latency_ns) hold(c);
    }
}

/* --- the loop of a connection ------------------------------------------------------------------- */

/* Bytes consumed; stops at the first answer that is held back. */
static size_t consume(struct connection *c, char *data, size_t size) {
    size_t at = 0;
    while (at < size && !c->held && !c->closing) {
        if (c->in_body) {
            at += body(c, data + at, size - at);
            continue;
        }
        char *from = data + at;
        if (*from == '\r' || *from == '\n') { /* some clients end a body with an extra line */
            at++;
            continue;
        }
        char *end = memmem(from, size - at, "\r\n\r\n", 4);
        if (!end) break;
        size_t length = (size_t)(end - from) + 4;
        at += length;
        head(c, from, length);
    }
    return at;
}

static void drive(struct connection *c) {
    char *scratch = c->worker->scratch;
    size_t have = c->n_left;
    if (have) memcpy(scratch, c->left, have);
    c->n_left = 0;
    for (;;) {
        if (c->dead) return finish(c);
        if (c->held) break;
        if (!flush(c)) {
            if (c->dead) return finish(c);
            break;
        }
        if (c->closing) {
            /* everything was said; what is still on its way here would turn our last words into a reset */
            if (!c->ssl) shutdown(c->fd, SHUT_WR);
            else SSL_shutdown(c->ssl);
            return finish(c);
        }
        if (have) {
            size_t used = consume(c, scratch, have);
            have -= used;
            if (have && used) memmove(scratch, scratch + used, have);
            if (used) continue;
            if (have >= HEAD_MAX) {
                give_up(c, "400 Bad Request", "RequestHeaderSectionTooLarge");
                continue;
            }
        }
        if (!c->readable) break;
        size_t skip = have ? 0 : skippable(c);
        if (skip >= 2048) {
            size_t gone = receive(c, NULL, skip, MSG_TRUNC);
            if (gone) body(c, NULL, gone);
        } else {
            have += receive(c, scratch + have, SCRATCH - have, 0);
        }
    }
    if (have) {
        c->left = realloc(c->left, have);
        if (!c->left) abort();
        memcpy(c->left, scratch, have);
        c->n_left = have;
    }
}

static void *work(void *argument) {
    struct worker *w = argument;
    struct epoll_event events[256];
    for (;;) {
        struct timespec wait, *until = NULL;
        if (w->first_held) {
            int64_t ns = w->first_held->due_ns - now_ns();
            if (ns < 0) ns = 0;
            wait.tv_sec = ns / 1000000000;
            wait.tv_nsec = ns % 1000000000;
            until = &wait;
        }
        int n = epoll_pwait2(w->epoll, events, 256, until, NULL);
        for (int at = 0; at < n; at++) {
            struct connection *c = events[at].data.ptr;
            if (events[at].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) c->readable = true;
            if (events[at].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) c->ended = true; /* no edge will follow */
            if (!c->held) drive(c);
        }
        if (!w->first_held) continue;
        int64_t now = now_ns();
        while (w->first_held && w->first_held->due_ns <= now) {
            struct connection *c = w->first_held;
            hold_remove(c);
            drive(c);
        }
    }
    return NULL;
}

/* --- start -------------------------------------------------------------------------------------- */

static void die(const char *what) {
    fprintf(stderr, "sink: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void accept_one(int listening) {
    static unsigned turn = 0;
    int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE) usleep(1000);
        return;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->fd = fd;
    c->worker = &workers[turn++ % (unsigned)option_threads];
    if (tls) {
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, fd);
        SSL_set_accept_state(c->ssl);
    }
    int64_t open = atomic_fetch_add(&connections, 1) + 1;
    atomic_fetch_add(&connections_all, 1);
    if (open > atomic_load(&connections_max)) atomic_store(&connections_max, open); /* only this thread adds */
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(c->worker->epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

int main(int argc, char **argv) {
    int port = 0;
    bool until_eof = false;
    const char *cert = NULL, *key = NULL;
    for (int at = 1; at < argc; at++) {
        const char *name = argv[at];
        int values = !strcmp(name, "--tls") ? 2 : !strcmp(name, "--verify") || !strcmp(name, "--until-eof") ? 0 : 1;
        if (at + values >= argc) {
            fprintf(stderr, "sink: %s needs a value\n", name);
            return 2;
        }
        if (!strcmp(name, "--tls")) cert = argv[at + 1], key = argv[at + 2];
        else if (!strcmp(name, "--verify")) option_verify = true;
        else if (!strcmp(name, "--until-eof")) until_eof = true;
        else if (!strcmp(name, "--port")) port = atoi(argv[at + 1]);
        else if (!strcmp(name, "--threads")) option_threads = atoi(argv[at + 1]);
        else if (!strcmp(name, "--latency-ms")) option_latency_ns = (int64_t)(atof(argv[at + 1]) * 1e6);
        else if (!strcmp(name, "--bucket") && n_buckets < BUCKETS_MAX) option_buckets[n_buckets++] = argv[at + 1];
        else {
            fprintf(stderr, "usage: sink [--port N] [--threads N] [--tls CERT KEY] [--latency-ms N] [--verify] "
                            "[--bucket NAME]... [--until-eof]\n");
            return 2;
        }
        at += values;
    }
    if (option_threads < 1) option_threads = 1;
    if (option_threads > THREADS_MAX) option_threads = THREADS_MAX;
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (cert) {
        tls = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_read_ahead(tls, 1);
        SSL_CTX_set_default_read_buffer_len(tls, 128 * 1024);
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_options(tls, SSL_OP_IGNORE_UNEXPECTED_EOF);
        if (SSL_CTX_use_certificate_chain_file(tls, cert) != 1 || SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
            ERR_print_errors_fp(stderr);
            return 1;
        }
    }
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof address)) die("bind");
    if (listen(listening, 4096)) die("listen");
    socklen_t length = sizeof address;
    getsockname(listening, (struct sockaddr *)&address, &length);
    for (int number = 0; number < option_threads; number++) {
        struct worker *w = &workers[number];
        w->number = number;
        w->epoll = epoll_create1(EPOLL_CLOEXEC);
        w->scratch = malloc(SCRATCH);
        if (w->epoll < 0 || !w->scratch || pthread_create(&w->thread, NULL, work, w)) die("thread");
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct pollfd polled[2] = {{.fd = listening, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    for (;;) {
        if (poll(polled, until_eof ? 2 : 1, -1) < 0 && errno != EINTR) die("poll");
        if (polled[0].revents) accept_one(listening);
        char byte;
        if (until_eof && polled[1].revents && read(0, &byte, 1) <= 0) return 0;
    }
}
