// The C interface of haul, a parallel segmented download engine.
//
// Made from the sources of haul-capi: do not edit. Link libhaul_capi (.so, .dylib, .a).
//
// A download is an options handle, started; its handle is polled, steered, waited for and read
// from. See examples/fetch.c, and examples/fetch.py for ctypes.
//
// Errors. Functions return a haul_code: HAUL_OK, HAUL_PENDING, or what went wrong, of which
// haul_last_error() tells more on the same thread. No exception and no unwinding leaves them: a
// defect of haul is HAUL_INTERNAL. A failed function leaves NULL in a handle or string it was to
// give.
//
// Threads. Every function may be called from any thread, and several at once with the same handle;
// calls that wait do not hold up the others, but reads of one reader wait for one another. The
// exceptions are the free functions: nothing may use a handle during or after its haul_..._free.
// haul has threads of its own, on which all signals are blocked but those of faults; of the program
// only its haul_refresh and haul_release run on them. After fork() the child must not call haul.
//
// Ownership. Handles from haul_..._new, _start and _open are freed by the caller, each by its
// function, in any order: what a download or a reader needs of its engine stays. Strings given out
// through a char ** are freed by haul_string_free, never by free(). What is handed in is copied
// before the function returns. NULL is refused with HAUL_INVALID_INPUT, except where it is said to
// mean something; the free functions ignore it.
//
// Texts are UTF-8, checked. Paths are the bytes that the system has, in any encoding, and UTF-8 on
// Windows. All strings end with a NUL.
//
// Structures grow at their end only. Those that the caller has room for are handed in with their
// size: haul fills what it knows, and zeroes the rest.


#ifndef HAUL_H
#define HAUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// In `haul_progress`: no response was accepted yet.
#define HAUL_STATE_STARTING 0

// In `haul_progress`: bytes arrive or are waited for.
#define HAUL_STATE_RUNNING 1

// In `haul_progress`: paused.
#define HAUL_STATE_PAUSED 2

// In `haul_progress`: all bytes are stored and are being synced.
#define HAUL_STATE_SYNCING 3

// In `haul_progress`: complete; the file has its name.
#define HAUL_STATE_COMPLETE 4

// In `haul_progress`: failed or cancelled; `haul_download_wait` tells why.
#define HAUL_STATE_FAILED 5

// In `haul_event`: an event that this version of the interface has no number for; its text
// describes it.
#define HAUL_EVENT_OTHER 0

// In `haul_event`: the first response was accepted and the output is open.
#define HAUL_EVENT_STARTED 1

// In `haul_event`: the download waits for its turn among the downloads of its engine.
#define HAUL_EVENT_QUEUED 2

// In `haul_event`: a round of backoff begins; the text says why.
#define HAUL_EVENT_RETRY 3

// In `haul_event`: something a person should know; the download goes on.
#define HAUL_EVENT_NOTICE 4

// In `haul_event`: nothing is received from now on.
#define HAUL_EVENT_PAUSED 5

// In `haul_event`: the download continues after a pause.
#define HAUL_EVENT_RESUMED 6

// In `haul_event`: all bytes are stored and are being synced.
#define HAUL_EVENT_SYNCING 7

// In `haul_event`: events before this one were lost, because nobody took them.
#define HAUL_EVENT_LAGGED 8

// In `haul_event`: complete; the file has its name. The last event.
#define HAUL_EVENT_COMPLETED 9

// In `haul_event`: failed or cancelled; `code` and the text tell why. The last event.
#define HAUL_EVENT_FAILED 10

// For `haul_options_set_resume`: an earlier partial download is continued when the object is
// provably the same; otherwise it restarts. The default.
#define HAUL_RESUME_AUTO 0

// For `haul_options_set_resume`: an earlier partial download is continued even if only the size
// shows that the object is the same.
#define HAUL_RESUME_ALWAYS 1

// For `haul_options_set_resume`: an earlier partial is discarded.
#define HAUL_RESUME_NEVER 2

// For `haul_reader_seek`: from the start of the object; SEEK_SET.
#define HAUL_SEEK_SET 0

// For `haul_reader_seek`: from the reader's position; SEEK_CUR.
#define HAUL_SEEK_CUR 1

// For `haul_reader_seek`: from the end of the object; SEEK_END.
#define HAUL_SEEK_END 2

// The space that a `haul_refresh` has for a URL, including its NUL.
#define HAUL_URL_BYTES 65536

// Settings of an engine.
typedef struct haul_config haul_config;

// A download.
typedef struct haul_download haul_download;

// What all downloads of a program share: connections, storing threads, memory and speed limits.
// One engine is enough.
typedef struct haul_engine haul_engine;

// The options of one download. They may be used for several downloads.
typedef struct haul_options haul_options;

// Reads the object of a download while it arrives, and afterwards.
typedef struct haul_reader haul_reader;

// What a function returns: 0, a negative number for something that is no error, or a positive one
// for an error.
typedef int32_t haul_code;

// The progress of a download, at most 100 ms old.
typedef struct {
    // Bytes of the object that are stored, including those of earlier runs.
    uint64_t bytes;
    // The size of the object in bytes; -1 while it is unknown.
    int64_t total_bytes;
    // Smoothed speed.
    double bytes_per_second;
    // Bytes fetched in this run, divided by its duration.
    double mean_bytes_per_second;
    // Milliseconds until the end at the smoothed speed; -1 while that is unknown.
    int64_t eta_milliseconds;
    // Connections that are fetching now.
    uint32_t connections;
    // Rounds of backoff so far.
    uint32_t retries;
    // One of `HAUL_STATE_*`.
    int32_t state;
    // 0.
    int32_t reserved;
} haul_progress;

// One of at most 256 equal cells of the object.
typedef struct {
    // The fraction of its bytes that is stored, 0.0 to 1.0.
    float done;
    // 1 if a connection is fetching it now, else 0.
    uint32_t active;
} haul_map_cell;

// The summary of a completed download.
typedef struct {
    // The size of the object in bytes.
    uint64_t bytes;
    // Bytes read from the network in bodies, wasted ones included.
    uint64_t fetched_bytes;
    // Bytes taken over from an earlier run.
    uint64_t resumed_bytes;
    // HTTP requests sent.
    uint64_t requests;
    // The time from the start until the file had its name.
    uint64_t elapsed_milliseconds;
    // Rounds of backoff.
    uint32_t retries;
    // The most connections at once.
    uint32_t connections;
    // 1 if `blake3` is known, else 0.
    uint32_t has_blake3;
    // 1 if the requested checksum was compared, else 0.
    uint32_t verified;
    // The BLAKE3 of the object, or zeros.
    uint8_t blake3[32];
    // Bytes that this run stored through the mapped file, not by positioned writes.
    uint64_t mapped_bytes;
} haul_summary;

// Something that happened to a download. Texts are one line and hold no secret; they live as long
// as the event.
typedef struct {
    // One of `HAUL_EVENT_*`.
    int32_t kind;
    // The code of the failure, or `HAUL_OK`.
    haul_code code;
    // For `HAUL_EVENT_RETRY`, the number of the round without progress, from 1.
    uint32_t attempt;
    // For `HAUL_EVENT_FAILED`, 1 if the same download continues when it is started again, else 0.
    uint32_t resumable;
    // For `HAUL_EVENT_RETRY`, the time until the next request.
    uint64_t wait_milliseconds;
    // For `HAUL_EVENT_LAGGED`, how many events were lost.
    uint64_t lost;
    // For `HAUL_EVENT_NOTICE`, a stable word for programs, such as "restarted"; else NULL.
    const char *word;
    // What happened, for a person, or NULL.
    const char *message;
} haul_event;

// What is known about a failure; see `haul_last_error`. Texts are one line, hold no secret (no
// query of a URL, no password, no header), and end without a full stop.
typedef struct {
    // The code that the function returned.
    haul_code code;
    // The HTTP status that caused it, or 0.
    int32_t http_status;
    // What happened, and what it means for the download.
    const char *message;
    // The next step for a person, which names no option of the command, or NULL.
    const char *hint;
    // The path of the checkpoint, if what was stored is kept, or NULL.
    const char *checkpoint;
    // Whether the same download, started again, in any process and also with
    // another signature in its URL, continues instead of starting from zero.
    bool resumable;
} haul_error;

// A function of the program that gives a fresh URL for one that expired, such as a signed link: it
// writes it with a NUL to `fresh`, which has room for `size` bytes, and returns `HAUL_OK`.
// Anything else means that there is no fresh URL, and the download fails as if there were no
// function.
//
// It is called on a thread of haul, where it may wait for up to two minutes, and it may be called
// for several downloads at once. It may call functions of haul, but must not wait for the download
// it is called for, nor free its download or engine. No exception may leave it: the process is
// aborted. `expired` and `fresh` are valid until it returns.
typedef haul_code (*haul_refresh)(void *context, const char *expired, char *fresh, size_t size);

// A function of the program that frees what `context` points to: called once, on any thread, when
// nothing can use it any more. No exception may leave it.
typedef void (*haul_release)(void *context);

// Done.
#define HAUL_OK 0

// Not an error: the requested result is not there yet, because the download is still running.
#define HAUL_PENDING -1

// A defect of haul.
#define HAUL_INTERNAL 1

// An argument that cannot be used.
#define HAUL_INVALID_INPUT 2

// The output exists and was not to be replaced.
#define HAUL_OUTPUT_EXISTS 3

// Another download, in any process, is writing to the same output.
#define HAUL_LOCKED 4

// A local file or directory failed.
#define HAUL_LOCAL_FILE 5

// The disk or a quota is full, or the file is too large for the file system.
#define HAUL_DISK_FULL 6

// A lookup, connect, reset or stall failed after all retries.
#define HAUL_NETWORK 7

// TLS: an untrusted, expired or misnamed certificate, or a failed handshake.
#define HAUL_TLS 8

// 401, 403, 407 or 410: refused, or the link expired.
#define HAUL_ACCESS_DENIED 9

// The proxy wants a login or a different one, or refuses the connection.
#define HAUL_PROXY_REFUSED 10

// The server broke HTTP; nothing wrong was stored.
#define HAUL_PROTOCOL 11

// Any other HTTP error status.
#define HAUL_HTTP_STATUS 12

// The bytes do not match the digest.
#define HAUL_DIGEST_MISMATCH 13

// The object changed, again, while it was downloaded.
#define HAUL_OBJECT_CHANGED 14

// A limit that the caller set was reached.
#define HAUL_LIMIT_REACHED 15

// The download was cancelled.
#define HAUL_CANCELLED 16

// A part of the program panicked, and the message names it. A C program has no such part.
#define HAUL_CALLBACK 17

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of haul, such as "0.1.0". The string stays valid for ever.
const char *haul_version(void);

// Frees a string that another function gave through a `char **`. NULL is ignored.
//
// # Safety
// `string` is NULL or was given by haul, and is not used again.
void haul_string_free(char *string);

// Starts a download and returns at once; the options stay the caller's.
//
// Gives: `*download`, to be freed by `haul_download_free`. Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed; `download` is NULL or can be written.
haul_code haul_download_start(const haul_options *options, haul_download **download);

// Frees a download; NULL is ignored. A running download is stopped in the background and leaves a
// state from which the same download continues. Readers of a complete download keep working.
//
// Takes: `download`. Threads: any, but nothing else may use `download` meanwhile, waiting
// included: cancel it first, and let those that wait return.
//
// # Safety
// `download` is NULL or of `haul_download_start`, and not used again.
void haul_download_free(haul_download *download);

// The current progress. The call is cheap and meant for polling. `size` is
// `sizeof(haul_progress)`.
//
// Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed; `progress` is NULL or has room for
// `size` bytes.
haul_code haul_download_progress(const haul_download *download,
                                 haul_progress *progress,
                                 size_t size);

// The object from its first to its last byte in equal cells: `*count` says how many cells there is
// room for, and afterwards how many were written; 256 are enough. There are none before the object
// is known.
//
// Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed; `count` is NULL or can be read and
// written; `cells` is NULL or has room for `*count` cells.
haul_code haul_download_map(const haul_download *download, haul_map_cell *cells, size_t *count);

// Waits for the end, at most this many milliseconds; a negative number waits for ever, 0 not at
// all. Returns `HAUL_OK` when the download is complete, `HAUL_PENDING` while it runs, and
// otherwise the code of its failure. Repeated calls give the same answer.
//
// Threads: any, several at once.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed.
haul_code haul_download_wait(const haul_download *download, int64_t milliseconds);

// Sends no request until `haul_download_resume`, and ends those under way. The bytes that have
// arrived are kept.
//
// Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed.
haul_code haul_download_pause(const haul_download *download);

// Continues after `haul_download_pause`.
//
// Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed.
haul_code haul_download_resume(const haul_download *download);

// Limits the rate from now on, in bytes a second; 0 is no limit.
//
// Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed.
haul_code haul_download_set_rate(const haul_download *download, uint64_t bytes_per_second);

// Limits the number of connections from now on; 0 is automatic.
//
// Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed.
haul_code haul_download_set_connections(const haul_download *download, uint32_t connections);

// Changes the priority from now on; see `haul_options_set_priority`.
//
// Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed.
haul_code haul_download_set_priority(const haul_download *download, int32_t priority);

// Stops the download, and waits until what was stored is recorded, which takes milliseconds unless
// a disk is slow. Afterwards `haul_download_wait` gives `HAUL_CANCELLED`, and `haul_last_error`
// the checkpoint. A download that has already ended stays as it is. Returns `HAUL_OK` in all these
// cases.
//
// Threads: any; those that wait return.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed.
haul_code haul_download_cancel(const haul_download *download);

// Stops the download and removes what is stored, with its checkpoint, including that of an earlier
// run. A complete file stays.
//
// Threads: any; those that wait return.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed.
haul_code haul_download_cancel_and_remove(const haul_download *download);

// The summary of a completed download; `size` is `sizeof(haul_summary)`. Returns `HAUL_PENDING`
// while the download runs, and the code of its failure if it failed.
//
// Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed; `summary` is NULL or has room for
// `size` bytes.
haul_code haul_download_summary(const haul_download *download, haul_summary *summary, size_t size);

// The path of the file that the download becomes. Returns `HAUL_PENDING` before the first response
// was accepted, since the server may name the file.
//
// Gives: `*path`, to be freed by `haul_string_free`. Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed; `path` is NULL or can be written.
haul_code haul_download_output(const haul_download *download, char **path);

// The final URL, without login and query. Returns `HAUL_PENDING` before the first response was
// accepted.
//
// Gives: `*url`, to be freed by `haul_string_free`. Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed; `url` is NULL or can be written.
haul_code haul_download_url(const haul_download *download, char **url);

// The Content-Type as the server sent it; NULL in `*content_type` if it sent none. Returns
// `HAUL_PENDING` before the first response was accepted.
//
// Gives: `*content_type`, to be freed by `haul_string_free`. Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed; `content_type` is NULL or can be
// written.
haul_code haul_download_content_type(const haul_download *download, char **content_type);

// The BLAKE3 of a complete object in hexadecimal digits; NULL in `*digits` if none was computed.
// Returns `HAUL_PENDING` while the download runs, and the code of its failure if it failed.
//
// Gives: `*digits`, to be freed by `haul_string_free`. Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed; `digits` is NULL or can be written.
haul_code haul_download_blake3(const haul_download *download, char **digits);

// Default settings.
//
// Gives: `*config`, to be freed by `haul_config_free`. Threads: any.
//
// # Safety
// `config` is NULL or can be written.
haul_code haul_config_new(haul_config **config);

// Frees settings; engines made with them keep theirs. NULL is ignored.
//
// Takes: `config`. Threads: any, but nothing else may use `config` meanwhile.
//
// # Safety
// `config` is NULL or of `haul_config_new`, and not used again.
void haul_config_free(haul_config *config);

// Bounds the received bytes that are not stored yet, over all downloads together. The default is
// 16 MiB, the least 4 MiB.
//
// Threads: any.
//
// # Safety
// `config` is NULL or of `haul_config_new` and not freed.
haul_code haul_config_set_memory_budget(haul_config *config, size_t bytes);

// Limits the total download rate, in bytes a second; 0 is no limit.
//
// Threads: any.
//
// # Safety
// `config` is NULL or of `haul_config_new` and not freed.
haul_code haul_config_set_rate(haul_config *config, uint64_t bytes_per_second);

// How long making one connection may take, in milliseconds. The default is 15000.
//
// Threads: any.
//
// # Safety
// `config` is NULL or of `haul_config_new` and not freed.
haul_code haul_config_set_connect_timeout(haul_config *config, uint64_t milliseconds);

// The User-Agent field. The default is haul/VERSION.
//
// Threads: any.
//
// # Safety
// `config` is NULL or of `haul_config_new` and not freed; `user_agent` is NULL
// or a string.
haul_code haul_config_set_user_agent(haul_config *config, const char *user_agent);

// A PEM file of certificate authorities, instead of the system's; read by
// `haul_engine_new`.
//
// Threads: any.
//
// # Safety
// `config` is NULL or of `haul_config_new` and not freed; `file` is NULL or a
// string.
haul_code haul_config_set_ca_file(haul_config *config, const char *file);

// A proxy for all requests, as `[SCHEME://][NAME[:PASS]@]HOST[:PORT]` with the scheme http, https,
// socks4, socks4a, socks5 or socks5h. There is none by default: the environment is not read.
//
// Threads: any.
//
// # Safety
// `config` is NULL or of `haul_config_new` and not freed; `proxy` is NULL or a
// string.
haul_code haul_config_set_proxy(haul_config *config, const char *proxy);

// A directory for remembering how many connections to a host were worth having. There is none by
// default: nothing is remembered.
//
// Threads: any.
//
// # Safety
// `config` is NULL or of `haul_config_new` and not freed; `directory` is NULL
// or a string.
haul_code haul_config_set_state_directory(haul_config *config, const char *directory);

// Whether HTTP/2 is offered to servers. The default is false: over HTTP/1.1 each connection has
// its own congestion window, which is faster for large objects.
//
// Threads: any.
//
// # Safety
// `config` is NULL or of `haul_config_new` and not freed.
haul_code haul_config_set_http2(haul_config *config, bool on);

// Creates an engine with a copy of these settings, or with the defaults for NULL, and starts its
// threads.
//
// Gives: `*engine`, to be freed by `haul_engine_free`. Threads: any.
//
// # Safety
// `config` is NULL or of `haul_config_new` and not freed; `engine` is NULL or
// can be written.
haul_code haul_engine_new(const haul_config *config, haul_engine **engine);

// Frees an engine; NULL is ignored. Its downloads continue, and keep what they need of it. The
// last of them to be freed waits, at most 5 s, until the downloads that it stopped have recorded
// what they had.
//
// Takes: `engine`. Threads: any, but nothing else may use `engine` meanwhile.
//
// # Safety
// `engine` is NULL or of `haul_engine_new`, and not used again.
void haul_engine_free(haul_engine *engine);

// Waits for the next event, at most this many milliseconds; a negative number waits for ever, 0
// not at all. Returns `HAUL_PENDING` if none came in that time. After the last event, which is
// `HAUL_EVENT_COMPLETED` or `_FAILED`, `*event` is NULL. From the start of the download, a few
// dozen events are kept until they are taken; the last one is never lost.
//
// Gives: `*event`, to be freed by `haul_event_free`. Threads: any; each event goes to one call, and
// calls with one download wait for one another.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed; `event` is NULL or can be written.
haul_code haul_download_next_event(const haul_download *download,
                                   int64_t milliseconds,
                                   haul_event **event);

// Frees an event with its texts; NULL is ignored.
//
// Takes: `event`. Threads: any, but nothing else may use `event` meanwhile.
//
// # Safety
// `event` is NULL or of `haul_download_next_event`, and not used again.
void haul_event_free(haul_event *event);

// The failure of the last function that failed on this thread; NULL if none has. It is valid until
// the next function fails on this thread or the thread ends. It belongs to haul and must not be
// freed.
const haul_error *haul_last_error(void);

// Creates the options of a download of `url`, which is checked when the download starts. A login
// in it is sent as basic authentication and never shown.
//
// Gives: `*options`, to be freed by `haul_options_free`. Threads: any.
//
// # Safety
// `engine` is NULL or of `haul_engine_new` and not freed; `url` is NULL or a string; `options` is
// NULL or can be written.
haul_code haul_options_new(const haul_engine *engine, const char *url, haul_options **options);

// Frees options; downloads started with them have their own. NULL is ignored.
//
// Takes: `options`. Threads: any, but nothing else may use `options` meanwhile.
//
// # Safety
// `options` is NULL or of `haul_options_new`, and not used again.
void haul_options_free(haul_options *options);

// The output file; a relative one is below the directory. Without it the server names the file, or
// else the URL: such a name is always one safe component.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed; `file` is NULL or a
// string.
haul_code haul_options_set_output(haul_options *options, const char *file);

// The directory of the output, created if needed. The default is the working directory.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed; `directory` is NULL or a
// string.
haul_code haul_options_set_directory(haul_options *options, const char *directory);

// The digest that the object must have to get its name, as `ALGO=HEX` with ALGO one of sha256,
// sha512, sha1, md5, blake3; or bare hexadecimal digits, whose number implies the algorithm.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed; `checksum` is NULL or a
// string.
haul_code haul_options_set_checksum(haul_options *options, const char *checksum);

// The size in bytes that the object must have; any other size is `HAUL_LIMIT_REACHED`.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_expected_size(haul_options *options, uint64_t bytes);

// Limits the number of connections; 0, the default, adds connections while that makes the download
// faster, up to 16.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_connections(haul_options *options, uint32_t connections);

// Limits the rate, in bytes a second; 0, the default, is no limit. `haul_download_set_rate`
// changes it.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_rate(haul_options *options, uint64_t bytes_per_second);

// Adds a request header. It is sent only to the URL's own origin, and not to where that redirects.
// Whether it can be sent is checked when the download starts.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed; `name` and `value` are each NULL or a
// string.
haul_code haul_options_add_header(haul_options *options, const char *name, const char *value);

// Basic authentication, for the URL's own origin only.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed; `user` and `password` are each NULL or a
// string.
haul_code haul_options_set_login(haul_options *options,
                                 const char *user,
                                 const char *password);

// Whether an existing output is replaced at the moment the new one is complete. The default is
// false: `HAUL_OUTPUT_EXISTS`.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_overwrite(haul_options *options, bool on);

// Whether an earlier partial download is continued: `HAUL_RESUME_AUTO`, `_ALWAYS` or `_NEVER`.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_resume(haul_options *options, int32_t resume);

// Whether a file that another program began (curl, wget, Firefox, aria2) is continued, if parts of
// it, fetched again, are the same. It is left as it is otherwise. The default is false.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_continue_foreign(haul_options *options, bool on);

// How many rounds of backoff without any progress end the download. The default is 10.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_retries(haul_options *options, uint32_t rounds);

// How many milliseconds without a byte make a connection be given up, from 100 to 86400000. The
// default is 30000, and 300000 for the very first byte.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_stall_timeout(haul_options *options, uint64_t milliseconds);

// Whether data and directory are synced before the file gets its name. The default is true;
// without it, a power cut may damage what was complete.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_sync(haul_options *options, bool on);

// Whether the BLAKE3 of the object is computed. The default is true; without it, what an
// interrupted download stored since its last sync is fetched again.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_digest(haul_options *options, bool on);

// Decides which download comes first if the engine cannot serve all at once: a higher priority
// gets the connections that it can use before a lower one gets any. The default is 0;
// `haul_download_set_priority` changes it.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed.
haul_code haul_options_set_priority(haul_options *options, int32_t priority);

// Another URL of the same object. With a checksum, or a digest that the server sends, all URLs are
// used at once; without one, a mirror replaces a URL that failed, from zero. The URL is checked
// when the download starts.
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed; `url` is NULL or a string.
haul_code haul_options_add_mirror(haul_options *options, const char *url);

// Selects only these bytes of the object, one after another: `FIRST-LAST`, `FIRST-` or `-COUNT`
// (the last ones), several with commas between them; as in a `Range` field (RFC 9110 section
// 14.1.1).
//
// Threads: any.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed; `ranges` is NULL or a string.
haul_code haul_options_set_range(haul_options *options, const char *ranges);

// Asks the program for a fresh URL when the current one expires: `refresh` is called with
// `context`. `release`, unless it is NULL, is called once with it when the options and all
// downloads started with them are freed and no call is under way. It is also called when another
// function is set, and when this function fails.
//
// Threads: any; the functions themselves are called on haul's threads.
//
// # Safety
// `options` is NULL or of `haul_options_new` and not freed; `refresh` is NULL or a `haul_refresh`,
// and `release` NULL or a `haul_release`, which may be called with `context` from any thread until
// `release` was called.
haul_code haul_options_set_refresh(haul_options *options,
                                   haul_refresh refresh,
                                   void *context,
                                   haul_release release);

// Opens a reader at the object's start; any number may read at once. What it reads is fetched
// before the rest.
//
// Gives: `*reader`, to be freed by `haul_reader_free`. Threads: any.
//
// # Safety
// `download` is NULL or of `haul_download_start` and not freed; `reader` is NULL or can be written.
haul_code haul_reader_open(const haul_download *download, haul_reader **reader);

// Reads at least one byte and at most `size`, and waits until there is one to read; `*read` is 0
// only at the end of the object (or for a `size` of 0). The bytes came in validated responses, but
// only `haul_download_wait` says whether a digest of the whole object matches. If the download
// fails, this fails with the same code; cancelling the download ends the wait. The rest of the
// buffer may be overwritten.
//
// Threads: any; calls with one reader wait for one another.
//
// # Safety
// `reader` is NULL or of `haul_reader_open` and not freed; `buffer` is NULL or has room for `size`
// bytes that nothing else uses meanwhile; `read` is NULL or can be written.
haul_code haul_reader_read(const haul_reader *reader, void *buffer, size_t size, size_t *read);

// Moves to another position, which may be beyond the end. `whence` is `HAUL_SEEK_SET`, `_CUR` or
// `_END`; the last waits until the size is known. `*position`, unless `position` is NULL, is then
// the offset from the start.
//
// Threads: any; calls with one reader wait for one another.
//
// # Safety
// `reader` is NULL or of `haul_reader_open` and not freed; `position` is NULL or can be written.
haul_code haul_reader_seek(const haul_reader *reader,
                           int64_t offset,
                           int32_t whence,
                           uint64_t *position);

// Frees a reader; NULL is ignored.
//
// Takes: `reader`. Threads: any, but nothing else may use `reader` meanwhile.
//
// # Safety
// `reader` is NULL or of `haul_reader_open`, and not used again.
void haul_reader_free(haul_reader *reader);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HAUL_H */
