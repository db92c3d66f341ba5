// limit: what no bridge can be much cheaper than. Usage: limit --port PORT --redis redis://HOST:PORT/DB
//
// One process, one epoll loop, one Redis connection. What Redis sends is cut into messages; each becomes a WebSocket
// frame, once; the frames of one chunk of Redis' bytes are joined and written to each of the channel's sockets by a
// plain send(2) in a loop. What clients send is read and thrown away, but for a close frame, which is answered.
//
// It leaves out what a service needs: there are no queues (a socket that is full holds up everyone for up to
// SEND_TIMEOUT, then its client is closed), nothing that a client sends is checked (a close frame is
// known by what a read begins with), a channel stays subscribed. A lost Redis ends the process: a bench has no outages.

#define _GNU_SOURCE // strcasestr
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, EVENTS = 512, NAME = 514, HEAD = 4096, CHUNK = 1 << 16, TABLE = 1 << 16, MOST_FILES = 1 << 20 };
enum { TICK_MS = 50, PING_MS = 5000, SILENCE_MS = 65000, SEND_TIMEOUT_MS = 1000 };

static const char PING[] = "\x81\x0f{\"type\":\"ping\"}";
static const char HEALTHY[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nOK\n";
static const char REFUSED[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

struct buffer {
    char *data;
    size_t length, capacity;
};

struct channel {
    char name[NAME];
    int acknowledged;              // by Redis: only then do its clients get their 101
    int *clients, count, capacity; // descriptors
    struct buffer frames;          // of the chunk that is being read
    struct channel *next_touched, *next_in_slot;
};

struct client { // of the descriptor that is its index
    struct channel *channel; // NULL until the request is complete
    int position;            // in its channel's list
    struct buffer head;      // the request, while it is incomplete
    char accept[29];         // the answer to its key, until the 101 went out
    int open;                // it had its 101
    int64_t ping_at, heard_at;
};

static struct client *clients;
static int highest, poller, listener, redis;
static struct channel *table[TABLE], *touched;
static int64_t now;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t milliseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static char *reserve(struct buffer *buffer, size_t more) {
    if (buffer->length + more > buffer->capacity) {
        buffer->capacity = 2 * (buffer->length + more);
        buffer->data = realloc(buffer->data, buffer->capacity);
        if (buffer->data == NULL) die("memory");
    }
    return buffer->data + buffer->length;
}

static void append(struct buffer *buffer, const void *data, size_t length) {
    memcpy(reserve(buffer, length), data, length);
    buffer->length += length;
}

// ---- the accept value: SHA-1 of at most two blocks, and base64 -----------------------------------------------------

static uint32_t rotate(uint32_t word, int bits) { return word << bits | word >> (32 - bits); }

static void sha1(const char *text, size_t length, uint8_t digest[20]) {
    uint8_t padded[128] = {0};
    size_t size = length < 56 ? 64 : 128;
    memcpy(padded, text, length);
    padded[length] = 0x80;
    padded[size - 2] = (uint8_t)(length * 8 >> 8);
    padded[size - 1] = (uint8_t)(length * 8);
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    for (uint8_t *block = padded; block < padded + size; block += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 || i >= 60 ? b ^ c ^ d : (b & c) | (b & d) | (c & d);
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t sum = rotate(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = sum;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void accept_value(const char key[24], char value[29]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[61];
    uint8_t digest[21] = {0};
    snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(text, 60, digest);
    for (int i = 0; i < 7; i++) {
        uint32_t triple = (uint32_t)digest[3 * i] << 16 | digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++) value[4 * i + j] = digits[triple >> (18 - 6 * j) & 63];
    }
    value[27] = '='; // 20 bytes are 27 digits
    value[28] = 0;
}

// ---- clients -------------------------------------------------------------------------------------------------------

static void end_client(int fd) {
    struct client *client = &clients[fd];
    if (client->channel != NULL) {
        struct channel *channel = client->channel;
        int last = channel->clients[--channel->count];
        channel->clients[client->position] = last;
        clients[last].position = client->position;
    }
    free(client->head.data);
    memset(client, 0, sizeof *client);
    close(fd);
}

// The socket blocks, for at most SEND_TIMEOUT. False: the client is gone.
static int write_to(int fd, const char *data, size_t length) {
    if (send(fd, data, length, MSG_NOSIGNAL) == (ssize_t)length) return 1;
    end_client(fd);
    return 0;
}

static void open_client(int fd) {
    char answer[160];
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n",
                          clients[fd].accept);
    clients[fd].open = 1;
    clients[fd].heard_at = now;
    clients[fd].ping_at = now + PING_MS;
    write_to(fd, answer, (size_t)length);
}

static struct channel *find_channel(const char *name, size_t length) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    struct channel **slot = &table[hash % TABLE];
    for (; *slot != NULL; slot = &(*slot)->next_in_slot)
        if (strlen((*slot)->name) == length && memcmp((*slot)->name, name, length) == 0) return *slot;
    struct channel *channel = *slot = calloc(1, sizeof *channel);
    if (channel == NULL) die("memory");
    memcpy(channel->name, name, length);
    return channel;
}

static void join(int fd, const char *name, size_t length) {
    struct channel *channel = find_channel(name, length);
    if (channel->count == channel->capacity) {
        channel->capacity = channel->capacity ? 2 * channel->capacity : 4;
        channel->clients = realloc(channel->clients, sizeof(int) * (size_t)channel->capacity);
        if (channel->clients == NULL) die("memory");
        if (channel->count == 0) dprintf(redis, "*2\r\n$9\r\nSUBSCRIBE\r\n$%zu\r\n%s\r\n", length, channel->name);
    }
    clients[fd].channel = channel;
    clients[fd].position = channel->count;
    channel->clients[channel->count++] = fd;
    if (channel->acknowledged) open_client(fd);
}

// A request's path as it is: the channels of the bench need no percent-decoding.
static void handle_request(int fd, char *head) {
    char *path = head + 4, *end = strncmp(head, "GET ", 4) == 0 ? strpbrk(path, " ?\r") : NULL;
    char *key = strcasestr(head, "\r\nSec-WebSocket-Key: ");
    size_t length = end == NULL ? 0 : (size_t)(end - path);
    if (length == 7 && memcmp(path, "/health", 7) == 0) {
        if (write_to(fd, HEALTHY, sizeof HEALTHY - 1)) end_client(fd);
    } else if (length < 2 || length > NAME || key == NULL || strlen(key + 21) < 24) {
        if (write_to(fd, REFUSED, sizeof REFUSED - 1)) end_client(fd);
    } else {
        accept_value(key + 21, clients[fd].accept);
        join(fd, path + 1, length - 1);
    }
}

static void read_client(int fd) {
    static char chunk[CHUNK];
    struct client *client = &clients[fd];
    ssize_t got = recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || (client->channel == NULL && client->head.length + (size_t)got > HEAD)) {
        end_client(fd);
    } else if (client->channel != NULL) {
        client->heard_at = now;
        if ((chunk[0] & 0x0f) == 8 && client->open && write_to(fd, "\x88\x02\x03\xe8", 4)) end_client(fd);
    } else {
        append(&client->head, chunk, (size_t)got);
        append(&client->head, "", 1);
        struct buffer head = client->head;
        client->head.length--;
        if (strstr(head.data, "\r\n\r\n") == NULL) return;
        memset(&client->head, 0, sizeof client->head);
        handle_request(fd, head.data);
        free(head.data);
    }
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll");
}

static void accept_clients(void) {
    struct timeval limit = {.tv_sec = SEND_TIMEOUT_MS / 1000, .tv_usec = SEND_TIMEOUT_MS % 1000 * 1000};
    int fd, yes = 1;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (fd > highest) highest = fd;
        watch(fd);
    }
    if (errno != EAGAIN && errno != ECONNABORTED) die("accept");
}

static void tend_clients(void) {
    for (int fd = 0; fd <= highest; fd++) {
        struct client *client = &clients[fd];
        if (!client->open || client->ping_at > now) continue;
        client->ping_at += PING_MS;
        if (now - client->heard_at > SILENCE_MS) end_client(fd);
        else write_to(fd, PING, sizeof PING - 1);
    }
}

// ---- Redis ---------------------------------------------------------------------------------------------------------

static void add_frame(struct channel *channel, const char *payload, size_t length) {
    static const char begin[] = "{\"type\":\"status\",\"data\":\"", end[] = "\"}";
    static struct buffer json;
    json.length = 0;
    append(&json, begin, sizeof begin - 1);
    for (const char *byte = payload; byte < payload + length; byte++) {
        if (*byte == '"' || *byte == '\\') json.length += (size_t)sprintf(reserve(&json, 8), "\\%c", *byte);
        else if ((uint8_t)*byte < 0x20) json.length += (size_t)sprintf(reserve(&json, 8), "\\u%04x", *byte);
        else *reserve(&json, 1) = *byte, json.length++;
    }
    append(&json, end, sizeof end - 1);

    uint8_t head[10] = {0x81};
    size_t digits = json.length < 126 ? 0 : json.length < 1 << 16 ? 2 : 8;
    head[1] = (uint8_t)(digits == 0 ? json.length : digits == 2 ? 126 : 127);
    for (size_t i = 0; i < digits; i++) head[2 + i] = (uint8_t)((uint64_t)json.length >> 8 * (digits - 1 - i));
    if (channel->frames.length == 0) {
        channel->next_touched = touched;
        touched = channel;
    }
    append(&channel->frames, head, 2 + digits);
    append(&channel->frames, json.data, json.length);
}

// A `$<length>\r\n<bytes>\r\n` at *at; false when it has not come whole.
static int take_bulk(const char **at, const char *end, const char **data, size_t *length) {
    const char *line = memchr(*at, '\n', (size_t)(end - *at));
    if (line == NULL) return 0;
    if (**at != '$') fprintf(stderr, "redis: %.*s\n", (int)(line - *at), *at), exit(1);
    *length = strtoul(*at + 1, NULL, 10);
    *data = line + 1;
    if ((size_t)(end - *data) < *length + 2) return 0;
    *at = *data + *length + 2;
    return 1;
}

// One push: `message` <channel> <payload>, or `subscribe` <channel> :<number>. False when it has not come whole.
static int take_push(const char **begin, const char *end) {
    const char *at = *begin, *kind, *name, *payload, *line;
    size_t kind_length, name_length, length;
    if (end - at < 4) return 0;
    if (memcmp(at, "*3\r\n", 4) != 0) fprintf(stderr, "redis: %.*s\n", (int)(end - at), at), exit(1);
    at += 4;
    if (!take_bulk(&at, end, &kind, &kind_length) || !take_bulk(&at, end, &name, &name_length)) return 0;
    if (kind_length == 7) { // message
        if (!take_bulk(&at, end, &payload, &length)) return 0;
        add_frame(find_channel(name, name_length), payload, length);
    } else {
        if ((line = memchr(at, '\n', (size_t)(end - at))) == NULL) return 0;
        at = line + 1;
        struct channel *channel = find_channel(name, name_length);
        channel->acknowledged = 1;
        for (int i = channel->count - 1; i >= 0; i--) open_client(channel->clients[i]);
    }
    *begin = at;
    return 1;
}

static void read_redis(void) {
    static struct buffer input;
    ssize_t got = recv(redis, reserve(&input, CHUNK), CHUNK, 0);
    if (got == 0) errno = ECONNRESET;
    if (got <= 0) die("redis");
    input.length += (size_t)got;
    const char *at = input.data, *end = input.data + input.length;
    while (take_push(&at, end)) continue;
    input.length = (size_t)(end - at);
    memmove(input.data, at, input.length);

    for (; touched != NULL; touched = touched->next_touched) {
        for (int i = touched->count - 1; i >= 0; i--) // backwards: a client that ends is replaced by the last
            write_to(touched->clients[i], touched->frames.data, touched->frames.length);
        touched->frames.length = 0;
    }
}

// ---- the process ---------------------------------------------------------------------------------------------------

static int connect_redis(const char *url) {
    char host[256], port[6] = "6379";
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *address;
    if (sscanf(url, "redis://%255[^:/]:%5[0-9]", host, port) < 1 || getaddrinfo(host, port, &hints, &address) != 0)
        die("redis URL");
    int fd = socket(address->ai_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, address->ai_addr, address->ai_addrlen) != 0) die("redis");
    freeaddrinfo(address);
    return fd;
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0) die("listen");
    return fd;
}

int main(int count, char **arguments) {
    if (count != 5) return fprintf(stderr, "usage: limit --port PORT --redis URL\n"), 2;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur > MOST_FILES) files.rlim_cur = MOST_FILES;
    setrlimit(RLIMIT_NOFILE, &files);
    clients = calloc(files.rlim_cur, sizeof *clients);
    poller = epoll_create1(0);
    if (clients == NULL || poller < 0) die("start");
    redis = connect_redis(arguments[4]);
    listener = listen_on(atoi(arguments[2]));
    watch(redis);
    watch(listener);

    for (int64_t tick = milliseconds() + TICK_MS;;) {
        struct epoll_event events[EVENTS];
        now = milliseconds();
        int ready = epoll_wait(poller, events, EVENTS, tick > now ? (int)(tick - now) : 0);
        if (ready < 0 && errno != EINTR) die("epoll");
        now = milliseconds();
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == redis) read_redis();
            else if (fd == listener) accept_clients();
            else read_client(fd);
        }
        if (now >= tick) {
            tend_clients();
            tick = now + TICK_MS;
        }
    }
}
