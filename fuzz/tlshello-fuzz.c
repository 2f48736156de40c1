/* Any bytes come in as the first ones of a connection; the ClientHello sniffer's answer is checked.
 */
#include "sniff-fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_sniffer(tlshello_sniff, data, size);
    return 0;
}
