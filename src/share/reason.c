/* The one table of reasons. Pure: numbers and words in, words and numbers out. */
#include "share/reason.h"

#include <stddef.h>
#include <string.h>

#define BAD(status)  REASON_KIND_BAD, status
#define BUSY(status) REASON_KIND_BUSY, status

static const struct reason_info reasons[REASON_COUNT] = {
    [REASON_NONE] = {"-", REASON_KIND_NOBODY, 404, "no reason was given"},
    [REASON_NO_ROUTE] = {"NoRoute", REASON_KIND_NOBODY, 404,
                         "nobody owns this name, path or protocol here"},
    [REASON_RESERVED] = {"Reserved", REASON_KIND_BUSY, 503,
                         "the name is reserved, and its owner serves nothing now"},
    [REASON_BAD_REQUEST] = {"BadRequest", BAD(400),
                            "it is the protocol, but no server should be shown it"},
    [REASON_NO_HOST] = {"NoHost", BAD(400), "the request names no host"},
    [REASON_TWO_HOSTS] = {"TwoHosts", BAD(400), "the request names two hosts"},
    [REASON_TOO_LARGE] = {"TooLarge", REASON_KIND_LARGE, 431,
                          "no name in as many bytes as are looked at"},
    [REASON_BAD_PROXY] = {"BadProxy", BAD(400), "a PROXY header was expected and is not there"},
    [REASON_SILENT] = {"Silent", BUSY(408), "nothing was said, and nobody takes silent clients"},
    [REASON_HEADER_WAIT] = {"HeaderWait", BUSY(408),
                            "the client began to speak and did not finish in time"},
    [REASON_SLOW_HEADER] = {"SlowHeader", BUSY(408), "the client speaks too slowly"},
    [REASON_CLOSED] = {"Closed", BUSY(408), "the client hung up without a byte"},
    [REASON_RESET] = {"Reset", BUSY(408), "the client reset the connection"},
    [REASON_QUEUE_FULL] = {"QueueFull", BUSY(503), "too many wait for the application already"},
    [REASON_LIMIT] = {"Limit", BUSY(503), "too many connections are open"},
    [REASON_SOURCE_LIMIT] = {"SourceLimit", BUSY(503),
                             "too many connections are open from this address"},
    [REASON_PATIENCE] = {"Patience", BUSY(503), "the application did not become ready in time"},
    [REASON_APP_STOPPED] = {"AppStopped", BUSY(503), "the application is stopped"},
    [REASON_START_FAILED] = {"StartFailed", BUSY(503), "the application could not be started"},
    [REASON_RAPID_FAIL] = {"RapidFail", BUSY(503),
                           "the application failed too often and is paused"},
    [REASON_NO_MEMORY] = {"NoMemory", BUSY(503), "memory was short"},
    [REASON_UPSTREAM_REFUSED] = {"UpstreamRefused", BUSY(502),
                                 "nothing listens at the address that this name leads to"},
    [REASON_UPSTREAM_TIMEOUT] = {"UpstreamTimeout", BUSY(504),
                                 "the address that this name leads to did not answer in time"},
    [REASON_UPSTREAM_UNREACHABLE] = {"UpstreamUnreachable", BUSY(502),
                                     "the address that this name leads to cannot be reached"},
    [REASON_NOT_SERVED] = {"NotServed", REASON_KIND_NOBODY, 404, "nobody here serves this service"},
    [REASON_BAD_STREAM] = {"BadStream", BAD(400), "a peer's stream came without a usable socket"},
};

const struct reason_info *reason_info(unsigned reason)
{
    return &reasons[reason < REASON_COUNT ? reason : REASON_NONE];
}

const char *reason_word(unsigned reason)
{
    return reason_info(reason)->word;
}

enum reason reason_find(const char *word)
{
    for (unsigned i = REASON_NONE + 1; word && i < REASON_COUNT; i++)
        if (strcmp(reasons[i].word, word) == 0)
            return i;
    return REASON_NONE;
}

const char *reason_phrase(uint16_t status)
{
    static const struct {
        uint16_t status;
        const char *phrase;
    } phrases[] = {
        /* RFC 9110 15, RFC 6585, RFC 7725 */
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {408, "Request Timeout"},
        {410, "Gone"},
        {421, "Misdirected Request"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {451, "Unavailable For Legal Reasons"},
        {500, "Internal Server Error"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "Refused";
}
