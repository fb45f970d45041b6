// For handlers in C, beside the header that `wit-bindgen c` makes of the contract, which is to be included first.

#ifndef SANDHOG_H
#define SANDHOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Declares a kind that this component has a handler of, once for each and outside of functions:
//
//     SANDHOG_KIND("text.count");
//
// It stands in the component's custom section `sandhog:kinds`, so that a plugin's TOML can be held against it before it is
// deployed.
#define SANDHOG_KIND(kind) \
    __asm__(".section \".custom_section.sandhog:kinds\",\"\",@\n.ascii \"" kind "\\n\"\n.text")

// A job to be enqueued, of the usual priority, at once, without options. Set what it shall have besides, and hand it to
// `sandhog_job_enqueue_enqueue`; it refers to the texts and bytes that it was given:
//
//     sandhog_job_enqueue_new_job_t job = sandhog_new_job("mail.send", payload, length);
//     job.group.is_some = true;
//     handler_string_set(&job.group.val, "ann");
static inline sandhog_job_enqueue_new_job_t sandhog_new_job(const char *kind, const uint8_t *payload, size_t length) {
    sandhog_job_enqueue_new_job_t job;
    memset(&job, 0, sizeof job);
    handler_string_set(&job.kind, kind);
    job.payload.ptr = (uint8_t *)payload;
    job.payload.len = length;
    job.start.tag = SANDHOG_JOB_ENQUEUE_START_AFTER;
    job.priority = 100;
    return job;
}

// Ends of `handle`: each sets the failure, and returns what `handle` is to return. The texts are copied.

// Trying again may help. `code` is the kind of failure, such as `smtp-421`, for the rules of the retry policy to go by; or NULL.
static inline bool sandhog_transient(const char *message, const char *code, handler_failure_t *failure) {
    memset(failure, 0, sizeof *failure);
    failure->tag = SANDHOG_JOB_TYPES_FAILURE_TRANSIENT;
    handler_string_dup(&failure->val.transient.message, message);
    if (code != NULL) {
        failure->val.transient.code.is_some = true;
        handler_string_dup(&failure->val.transient.code.val, code);
    }
    return false;
}

// Trying again can't help: the job becomes a dead letter at once.
static inline bool sandhog_permanent(const char *message, handler_failure_t *failure) {
    failure->tag = SANDHOG_JOB_TYPES_FAILURE_PERMANENT;
    handler_string_dup(&failure->val.permanent, message);
    return false;
}

// It is too early: the job is run again after so many milliseconds, and this attempt doesn't count.
static inline bool sandhog_snooze(uint64_t ms, handler_failure_t *failure) {
    failure->tag = SANDHOG_JOB_TYPES_FAILURE_SNOOZED;
    failure->val.snoozed = ms;
    return false;
}

// What the handler calls takes no more calls now: as `sandhog_snooze`, and told apart from it.
static inline bool sandhog_rate_limited(uint64_t ms, handler_failure_t *failure) {
    failure->tag = SANDHOG_JOB_TYPES_FAILURE_RATE_LIMITED;
    failure->val.rate_limited.downstream.is_some = false;
    failure->val.rate_limited.after_ms = ms;
    return false;
}

// The same of a service that the plugin's `calls` name: all jobs that call it wait.
static inline bool sandhog_rate_limited_by(const char *downstream, uint64_t ms, handler_failure_t *failure) {
    sandhog_rate_limited(ms, failure);
    failure->val.rate_limited.downstream.is_some = true;
    handler_string_dup(&failure->val.rate_limited.downstream.val, downstream);
    return false;
}

// A service that the plugin's `calls` name doesn't answer, or can't do what it was asked for: the job is run again after `ms`
// milliseconds, or after ten seconds if that is 0, and this attempt doesn't count.
static inline bool sandhog_unavailable(const char *downstream, uint64_t ms, handler_failure_t *failure) {
    failure->tag = SANDHOG_JOB_TYPES_FAILURE_UNAVAILABLE;
    handler_string_dup(&failure->val.unavailable.downstream, downstream);
    failure->val.unavailable.after_ms.is_some = ms > 0;
    failure->val.unavailable.after_ms.val = ms;
    return false;
}

#endif
