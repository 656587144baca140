/* Holds the C interface to what its header says. Run by the tests: contract URL MISSING
 * DIRECTORY BYTE EXPIRED, with URL a slow object of 16 MiB or more that begins with BYTE, MISSING a
 * URL of status 404, and EXPIRED the object's with a link that is refused.
 */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "haul.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            const haul_error *last = haul_last_error();                                            \
            fprintf(stderr, "%s:%d: %s\nlast error: %s\n", __FILE__, __LINE__, #condition,         \
                    last ? last->message : "none");                                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const char *url, *missing, *directory, *expired;

static haul_options *options_for(const haul_engine *engine, const char *of, const char *file)
{
    haul_options *options = NULL;
    CHECK(haul_options_new(engine, of, &options) == HAUL_OK);
    CHECK(haul_options_set_directory(options, directory) == HAUL_OK);
    CHECK(haul_options_set_output(options, file) == HAUL_OK);
    CHECK(haul_options_set_connections(options, 2) == HAUL_OK);
    CHECK(haul_options_set_priority(options, 1) == HAUL_OK);
    return options;
}

static haul_download *start(const haul_engine *engine, const char *of, const char *file)
{
    haul_options *options = options_for(engine, of, file);
    haul_download *download = NULL;
    CHECK(haul_download_start(options, &download) == HAUL_OK);
    haul_options_free(options);
    return download;
}

static int refused(haul_code code, const char *part)
{
    const haul_error *error = haul_last_error();
    return code == HAUL_INVALID_INPUT && error->code == code && strstr(error->message, part)
        && !error->resumable && !error->checkpoint;
}

static void what_cannot_be_used_is_refused(const haul_engine *engine)
{
    haul_engine *no_engine = (haul_engine *)1;
    haul_config *config = NULL;
    haul_options *options = NULL;
    haul_download *download = (haul_download *)1;
    haul_progress progress;

    CHECK(refused(haul_engine_new(NULL, NULL), "engine: it is NULL"));
    CHECK(haul_config_new(&config) == HAUL_OK);
    CHECK(haul_config_set_user_agent(config, "a\nb") == HAUL_OK);
    CHECK(refused(haul_engine_new(config, &no_engine), "user agent"));
    CHECK(no_engine == NULL);
    CHECK(refused(haul_config_set_proxy(config, "gopher://x"), "gopher"));
    CHECK(haul_last_error()->hint != NULL);
    haul_config_free(config);

    CHECK(refused(haul_options_new(NULL, url, &options), "engine"));
    CHECK(refused(haul_options_new(engine, NULL, &options), "url"));
    CHECK(refused(haul_options_new(engine, "http://h/\xff", &options), "not UTF-8"));
    CHECK(haul_options_new(engine, "ftp://h/x", &options) == HAUL_OK);
    CHECK(refused(haul_options_set_checksum(options, "sha256=12"), "12"));
    CHECK(refused(haul_options_set_resume(options, 3), "HAUL_RESUME"));
    CHECK(refused(haul_options_set_continue_foreign(NULL, true), "options"));
    CHECK(haul_options_set_continue_foreign(options, true) == HAUL_OK);
    CHECK(refused(haul_options_add_header(options, "X", NULL), "value"));
    CHECK(refused(haul_options_add_mirror(options, NULL), "url"));
    CHECK(refused(haul_options_set_range(options, "5-x"), "5-x"));
    CHECK(refused(haul_options_set_refresh(options, NULL, NULL, NULL), "refresh"));
    CHECK(refused(haul_download_start(options, &download), "ftp"));
    CHECK(download == NULL);
    haul_options_free(options);

    CHECK(refused(haul_download_wait(NULL, 0), "download"));
    CHECK(refused(haul_download_progress(NULL, &progress, sizeof progress), "download"));
    CHECK(refused(haul_reader_read(NULL, &progress, 1, NULL), "reader"));

    haul_config_free(NULL);
    haul_engine_free(NULL);
    haul_options_free(NULL);
    haul_download_free(NULL);
    haul_reader_free(NULL);
    haul_event_free(NULL);
    haul_string_free(NULL);
}

/* The kind of the next event; -1 after the last. Its text is free of secrets. */
static int next_kind(const haul_download *download, haul_code *code)
{
    haul_event *event = NULL;
    int kind = -1;
    CHECK(haul_download_next_event(download, -1, &event) == HAUL_OK);
    if (event) {
        kind = event->kind;
        *code = event->code;
        CHECK(!event->message || !strstr(event->message, "secret"));
        CHECK((event->word != NULL) == (kind == HAUL_EVENT_NOTICE));
    }
    haul_event_free(event);
    return kind;
}

/* Its last event has this kind and code, and comes once. */
static void ends_with(const haul_download *download, int kind, haul_code code)
{
    haul_code told = HAUL_OK;
    int last = -1, next;
    while ((next = next_kind(download, &told)) >= 0)
        last = next;
    CHECK(last == kind && told == code);
    CHECK(next_kind(download, &told) == -1);
}

struct link {
    const char *fresh;
    int asked, released;
    haul_code answer;
};

static haul_code fresh_link(void *context, const char *old, char *fresh, size_t size)
{
    struct link *link = context;
    link->asked++;
    CHECK(strcmp(old, expired) == 0);
    CHECK(size == HAUL_URL_BYTES && strlen(link->fresh) < size);
    strcpy(fresh, link->fresh);
    return link->answer;
}

static void released(void *context)
{
    ((struct link *)context)->released++;
}

/* 100 bytes from both ends of the object, of a link that expired. */
static void links_are_refreshed_and_let_go(const haul_engine *engine)
{
    const haul_code answers[] = {HAUL_OK, HAUL_NETWORK};
    for (int i = 0; i < 2; i++) {
        const struct timespec moment = {0, 5000000};
        struct link link = {url, 0, 0, answers[i]}, other = {url, 0, 0, HAUL_OK};
        const haul_code code = answers[i] == HAUL_OK ? HAUL_OK : HAUL_ACCESS_DENIED;
        haul_options *options = options_for(engine, expired, "ends");
        haul_download *download = NULL;
        haul_summary summary;
        char *path = NULL;
        CHECK(haul_options_set_range(options, "0-49,-50") == HAUL_OK);
        CHECK(haul_options_set_refresh(options, fresh_link, &other, released) == HAUL_OK);
        CHECK(haul_options_set_refresh(options, fresh_link, &link, released) == HAUL_OK);
        CHECK(haul_download_start(options, &download) == HAUL_OK);
        haul_options_free(options);
        CHECK(haul_download_wait(download, -1) == code);
        CHECK(link.asked == 1 && other.asked == 0 && other.released == 1);
        ends_with(download, code == HAUL_OK ? HAUL_EVENT_COMPLETED : HAUL_EVENT_FAILED, code);
        if (code == HAUL_OK) {
            CHECK(haul_download_summary(download, &summary, sizeof summary) == HAUL_OK);
            CHECK(summary.bytes == 100);
            CHECK(haul_download_output(download, &path) == HAUL_OK);
            CHECK(remove(path) == 0);
            haul_string_free(path);
        }
        haul_download_free(download);
        for (int tries = 0; tries < 2000 && link.released == 0; tries++)
            nanosleep(&moment, NULL);
        CHECK(link.released == 1);
    }
    struct link link = {url, 0, 0, HAUL_OK};
    CHECK(refused(haul_options_set_refresh(NULL, fresh_link, &link, released), "options"));
    CHECK(link.released == 1);
}

static void a_mirror_takes_the_place_of_what_is_missing(const haul_engine *engine)
{
    haul_options *options = options_for(engine, missing, "mirrored");
    haul_download *download = NULL;
    char *path = NULL;
    CHECK(haul_options_add_mirror(options, url) == HAUL_OK);
    CHECK(haul_options_set_range(options, "0-99") == HAUL_OK);
    CHECK(haul_download_start(options, &download) == HAUL_OK);
    haul_options_free(options);
    CHECK(haul_download_wait(download, -1) == HAUL_OK);
    CHECK(haul_download_output(download, &path) == HAUL_OK);
    CHECK(remove(path) == 0);
    haul_string_free(path);
    haul_download_free(download);
}

static void failures_tell_what_happened(const haul_engine *engine)
{
    haul_download *download = start(engine, missing, "missing");
    haul_summary summary;
    char *text = (char *)1;
    CHECK(haul_download_wait(download, -1) == HAUL_HTTP_STATUS);
    CHECK(haul_last_error()->http_status == 404);
    CHECK(!haul_last_error()->resumable);
    CHECK(!strstr(haul_last_error()->message, "secret"));
    CHECK(haul_download_wait(download, 0) == HAUL_HTTP_STATUS);
    CHECK(haul_download_summary(download, &summary, sizeof summary) == HAUL_HTTP_STATUS);
    CHECK(haul_download_output(download, &text) == HAUL_HTTP_STATUS);
    CHECK(text == NULL);
    ends_with(download, HAUL_EVENT_FAILED, HAUL_HTTP_STATUS);
    haul_download_free(download);
}

/* The signals that a thread blocks, from the system's table; 0 if it has gone. */
static unsigned long long blocked(const char *thread)
{
    char path[300], line[300];
    unsigned long long mask = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status))
        sscanf(line, "SigBlk: %llx", &mask);
    if (status)
        fclose(status);
    return mask;
}

/* Only the main thread takes signals of the program: no handler runs elsewhere, and a server that
 * hangs up is no SIGPIPE. */
static void signals_stay_the_programs(void)
{
    const unsigned long long pipe_and_interrupt =
        1ULL << (SIGPIPE - 1) | 1ULL << (SIGINT - 1) | 1ULL << (SIGALRM - 1);
    const unsigned long long fault = 1ULL << (SIGSEGV - 1) | 1ULL << (SIGBUS - 1);
    int others = 0;
    DIR *threads = opendir("/proc/self/task");
    struct dirent *thread;
    sigset_t mine;
    CHECK(threads != NULL);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mine) == 0);
    CHECK(!sigismember(&mine, SIGPIPE) && !sigismember(&mine, SIGINT));
    while ((thread = readdir(threads)) != NULL) {
        unsigned long long mask;
        if (thread->d_name[0] == '.' || atoi(thread->d_name) == (int)getpid())
            continue;
        mask = blocked(thread->d_name);
        if (mask == 0)
            continue;
        CHECK((mask & pipe_and_interrupt) == pipe_and_interrupt);
        CHECK((mask & fault) == 0);
        others++;
    }
    closedir(threads);
    CHECK(others >= 2);
}

static void *wait_for_it(void *download)
{
    return (void *)(size_t)haul_download_wait(download, -1);
}

static void until_bytes(const haul_download *download, uint64_t bytes)
{
    const struct timespec moment = {0, 5000000};
    haul_progress progress;
    for (;;) {
        CHECK(haul_download_progress(download, &progress, sizeof progress) == HAUL_OK);
        CHECK(progress.state < HAUL_STATE_COMPLETE);
        if (progress.bytes >= bytes)
            return;
        nanosleep(&moment, NULL);
    }
}

static void threads_wait_steer_and_cancel(const haul_engine *engine, int first_byte)
{
    const struct timespec moment = {0, 5000000};
    haul_download *download = start(engine, url, "film");
    haul_progress progress;
    haul_summary summary;
    haul_reader *reader = NULL;
    haul_map_cell cells[300];
    size_t count = 300;
    unsigned char byte[2] = {0, 0};
    uint64_t at = 0;
    pthread_t waiting[3];
    void *code;
    char *path = NULL, *shown = NULL;
    haul_event *event = (haul_event *)1;
    haul_code failed;

    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&waiting[i], NULL, wait_for_it, download) == 0);
    CHECK(haul_reader_open(download, &reader) == HAUL_OK);
    CHECK(haul_reader_seek(reader, -1, HAUL_SEEK_SET, &at) == HAUL_INVALID_INPUT);
    CHECK(haul_reader_seek(reader, -1, HAUL_SEEK_END, &at) == HAUL_OK);
    CHECK(at >= (16 << 20) - 1);
    CHECK(haul_reader_read(reader, byte, 2, &count) == HAUL_OK && count == 1);
    CHECK(haul_reader_read(reader, byte, 2, &count) == HAUL_OK && count == 0);
    CHECK(haul_reader_seek(reader, 0, HAUL_SEEK_SET, NULL) == HAUL_OK);
    CHECK(haul_reader_read(reader, byte, 1, &count) == HAUL_OK && count == 1);
    CHECK(byte[0] == first_byte);

    until_bytes(download, 2 << 20);
    CHECK(haul_download_wait(download, 0) == HAUL_PENDING);
    CHECK(haul_download_summary(download, &summary, sizeof summary) == HAUL_PENDING);
    signals_stay_the_programs();
    count = 300;
    CHECK(haul_download_map(download, cells, &count) == HAUL_OK);
    CHECK(count > 0 && count <= 256);
    CHECK(haul_download_set_rate(download, 1 << 20) == HAUL_OK);
    CHECK(haul_download_set_connections(download, 1) == HAUL_OK);
    CHECK(haul_download_set_priority(download, -1) == HAUL_OK);
    CHECK(haul_download_pause(download) == HAUL_OK);
    do {
        nanosleep(&moment, NULL);
        CHECK(haul_download_progress(download, &progress, sizeof progress) == HAUL_OK);
    } while (progress.state != HAUL_STATE_PAUSED);
    CHECK(progress.total_bytes == (int64_t)at + 1);
    while (next_kind(download, &failed) != HAUL_EVENT_PAUSED)
        ;
    CHECK(haul_download_next_event(download, 0, &event) == HAUL_PENDING && event == NULL);
    CHECK(haul_download_next_event(download, 20, &event) == HAUL_PENDING && event == NULL);
    CHECK(haul_download_resume(download) == HAUL_OK);
    CHECK(next_kind(download, &failed) == HAUL_EVENT_RESUMED);
    CHECK(haul_download_output(download, &path) == HAUL_OK);
    CHECK(strcmp(strrchr(path, '/'), "/film") == 0);
    haul_string_free(path);
    CHECK(haul_download_url(download, &shown) == HAUL_OK);
    CHECK(!strstr(shown, "secret"));
    haul_string_free(shown);

    CHECK(haul_download_cancel(download) == HAUL_OK);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(waiting[i], &code) == 0);
        CHECK((haul_code)(size_t)code == HAUL_CANCELLED);
    }
    CHECK(haul_download_wait(download, -1) == HAUL_CANCELLED);
    CHECK(haul_last_error()->resumable);
    CHECK(strstr(haul_last_error()->checkpoint, "/film.haul"));
    CHECK(haul_reader_read(reader, byte, 1, &count) == HAUL_CANCELLED || byte[0]);
    CHECK(haul_download_progress(download, &progress, sizeof progress) == HAUL_OK);
    CHECK(progress.state == HAUL_STATE_FAILED);
    ends_with(download, HAUL_EVENT_FAILED, HAUL_CANCELLED);
    haul_download_free(download);
    haul_reader_free(reader);
}

static void cancelled_and_removed_nothing_is_left(const haul_engine *engine)
{
    haul_download *download = start(engine, url, "film");
    until_bytes(download, 1 << 20);
    CHECK(haul_download_cancel_and_remove(download) == HAUL_OK);
    CHECK(haul_download_wait(download, 0) == HAUL_CANCELLED);
    CHECK(!haul_last_error()->resumable);
    haul_download_free(download);
}

/* Threads and descriptors of this process, and mappings of files that are shared. */
struct held {
    int threads, descriptors, mappings;
};

static int entries(const char *path)
{
    int count = 0;
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static struct held held_now(void)
{
    /* Without "." and "..". */
    struct held held = {entries("/proc/self/task") - 2, entries("/proc/self/fd") - 2, 0};
    char line[600], permissions[5];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps))
        held.mappings += sscanf(line, "%*s %4s", permissions) == 1 && permissions[3] == 's';
    fclose(maps);
    return held;
}

/* What ends in the background has ten seconds for it. */
static void nothing_is_left(struct held before)
{
    const struct timespec moment = {0, 5000000};
    struct held now = held_now();
    for (int tries = 0; tries < 2000 && memcmp(&now, &before, sizeof now) != 0; tries++) {
        nanosleep(&moment, NULL);
        now = held_now();
    }
    if (memcmp(&now, &before, sizeof now) != 0) {
        fprintf(stderr, "left behind: threads %d, descriptors %d, mappings %d more\n",
                now.threads - before.threads, now.descriptors - before.descriptors,
                now.mappings - before.mappings);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    haul_engine *engine = NULL;
    haul_config *config = NULL;
    struct held before;
    CHECK(argc == 6);
    /* The runtime's pipe for signals is made with the first engine, and stays. */
    CHECK(haul_engine_new(NULL, &engine) == HAUL_OK);
    haul_engine_free(engine);
    do
        before = held_now();
    while (before.threads > 1);
    url = argv[1], missing = argv[2], directory = argv[3], expired = argv[5];
    CHECK(strlen(haul_version()) >= 5);
    CHECK(haul_last_error() == NULL);
    CHECK(haul_config_new(&config) == HAUL_OK);
    CHECK(haul_config_set_memory_budget(config, 8 << 20) == HAUL_OK);
    CHECK(haul_config_set_user_agent(config, "contract") == HAUL_OK);
    CHECK(haul_config_set_connect_timeout(config, 5000) == HAUL_OK);
    CHECK(haul_engine_new(config, &engine) == HAUL_OK);
    haul_config_free(config);

    what_cannot_be_used_is_refused(engine);
    failures_tell_what_happened(engine);
    threads_wait_steer_and_cancel(engine, atoi(argv[4]));
    links_are_refreshed_and_let_go(engine);
    a_mirror_takes_the_place_of_what_is_missing(engine);
    cancelled_and_removed_nothing_is_left(engine);

    /* A download outlives the engine's handle. */
    haul_download *download = start(engine, missing, "missing");
    haul_engine_free(engine);
    CHECK(haul_download_wait(download, 20000) == HAUL_HTTP_STATUS);
    haul_download_free(download);
    nothing_is_left(before);
    puts("kept");
    return 0;
}
