/* Any bytes come in as the first ones of a connection; what the PROXY sniffer finds is checked. */
#include "base/addr.h"
#include "sniff-fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct addr src, dst;
    size_t n;
    if (proxy_sniff((struct str){(const char *)data, size}, &n, &src, &dst) != SNIFF_DONE)
        return 0;
    fuzz_require(n > 0 && n <= size);
    char text[ADDR_TEXT_MAX];
    fuzz_require(src.sa.sa_family == dst.sa.sa_family);
    (void)addr_format(&src, text);
    (void)addr_format(&dst, text);
    return 0;
}
