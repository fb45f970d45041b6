// Handles jobs of kind `text.count` in C: counts the lines, words and bytes of a file in a granted folder.
//
// Input:  the file's path, as plain text, such as /texts/moby-dick.txt
// Output: {"lines": 22316, "words": 215864, "bytes": 1276235}
//
// The functions and types are what `wit-bindgen c` makes of the contract, in handler.h; sandhog.h has what makes them shorter.

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handler.h"
#include "sandhog.h"

SANDHOG_KIND("text.count");

struct counts {
    unsigned long lines, words, bytes;
};

static bool fail_for_good(const char *path, int reason, handler_failure_t *failure) {
    char message[512];
    snprintf(message, sizeof message, "read %s: %s; is its folder granted, by `dirs` in [grants]?", path, strerror(reason));
    return sandhog_permanent(message, failure);
}

static void count(struct counts *counts, const unsigned char *chunk, size_t length, bool *in_word) {
    counts->bytes += length;
    for (size_t at = 0; at < length; at++) {
        bool space = isspace(chunk[at]);
        counts->lines += chunk[at] == '\n';
        counts->words += !space && !*in_word;
        *in_word = !space;
    }
}

bool exports_handler_handle(handler_job_t *job, handler_output_t *output, handler_failure_t *failure) {
    static unsigned char chunk[1 << 16];
    char *path = strndup((const char *)job->payload.ptr, job->payload.len);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return fail_for_good(path, errno, failure);

    struct counts counts = {0};
    bool in_word = false;
    for (size_t length; (length = fread(chunk, 1, sizeof chunk, file)) > 0;)
        count(&counts, chunk, length, &in_word);
    if (ferror(file))
        return fail_for_good(path, errno, failure);
    fclose(file);
    printf("counted %s\n", path); // to the job's log
    free(path);

    char *json;
    int length = asprintf(&json, "{\"lines\": %lu, \"words\": %lu, \"bytes\": %lu}", counts.lines, counts.words, counts.bytes);
    output->ptr = (uint8_t *)json;
    output->len = length;
    return true;
}
