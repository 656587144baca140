/* Fetches a URL into a file, shows how it goes, and reads the object's beginning long before its
 * end is here. Ctrl-C stops it; the same command continues.
 *
 *   cc -I engine/capi/include engine/capi/examples/fetch.c -L target/release -lhaul_capi -o fetch
 *   LD_LIBRARY_PATH=target/release ./fetch https://example.org/film.mp4 film.mp4
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "haul.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

/* Tells what failed on this thread. */
static int tell(const char *doing)
{
    const haul_error *error = haul_last_error();
    fprintf(stderr, "%s: %s\n", doing, error->message);
    if (error->hint)
        fprintf(stderr, "hint: %s\n", error->hint);
    if (error->resumable)
        fprintf(stderr, "the same command continues from %s\n", error->checkpoint);
    return error->code;
}

/* Tells what has happened since the last time. */
static void tell_events(const haul_download *download)
{
    haul_event *event = NULL;
    while (haul_download_next_event(download, 0, &event) == HAUL_OK && event) {
        if (event->kind == HAUL_EVENT_STARTED)
            printf("started\n");
        else if (event->kind == HAUL_EVENT_COMPLETED)
            printf("complete\n");
        else if (event->message)
            fprintf(stderr, "%s\n", event->message);
        haul_event_free(event);
    }
}

static int follow(const haul_download *download)
{
    haul_code code;
    while ((code = haul_download_wait(download, 200)) == HAUL_PENDING) {
        haul_progress now;
        tell_events(download);
        haul_download_progress(download, &now, sizeof now);
        fprintf(stderr, "%" PRIu64 " of %" PRId64 " bytes, %.1f MB/s, %u connections\n", now.bytes,
                now.total_bytes, now.bytes_per_second / 1e6, now.connections);
        if (interrupted)
            haul_download_cancel(download);
    }
    /* What failed is told of this thread's last function that failed. */
    if (code != HAUL_OK)
        return tell("the download failed");
    tell_events(download);

    haul_summary was;
    char *path = NULL, *digest = NULL;
    haul_download_summary(download, &was, sizeof was);
    haul_download_output(download, &path);
    haul_download_blake3(download, &digest);
    printf("%s: %" PRIu64 " bytes, %" PRIu64 " of them from an earlier run, blake3 %s\n", path,
           was.bytes, was.resumed_bytes, digest);
    haul_string_free(path);
    haul_string_free(digest);
    return 0;
}

/* The first bytes tell players what it is. */
static int look(const haul_download *download)
{
    haul_reader *reader = NULL;
    unsigned char bytes[16];
    size_t count = 0;
    haul_code code = haul_reader_open(download, &reader);
    if (code == HAUL_OK)
        code = haul_reader_read(reader, bytes, sizeof bytes, &count);
    haul_reader_free(reader);
    if (code != HAUL_OK)
        return tell("nothing can be read");
    tell_events(download);
    printf("it begins with");
    for (size_t at = 0; at < count; at++)
        printf(" %02x", bytes[at]);
    printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s URL FILE\n", argv[0]);
        return HAUL_INVALID_INPUT;
    }
    signal(SIGINT, on_interrupt);

    haul_engine *engine = NULL;
    haul_options *options = NULL;
    haul_download *download = NULL;
    int status = 0;
    if (haul_engine_new(NULL, &engine) || haul_options_new(engine, argv[1], &options)
        || haul_options_set_output(options, argv[2]) || haul_options_set_connections(options, 4)
        || haul_download_start(options, &download)) {
        status = tell("it cannot be started");
    } else {
        status = look(download);
        if (status == 0)
            status = follow(download);
    }
    haul_download_free(download);
    haul_options_free(options);
    haul_engine_free(engine);
    return status;
}
