/* SSH: the peeked bytes come in; whether they are an SSH client's goes out. There is no name in
 * them. RFC 4253 4.2: the identification string MUST begin with "SSH-". */
#include "wire/scratch.h"
#include "wire/sniffed.h"

enum sniff_verdict ssh_sniff(struct str in, struct sniffed *out)
{
    enum sniff_verdict v = sniff_starts(in, STR("SSH-"));
    if (v == SNIFF_DONE)
        sniffed_reset(out, PROTO_SSH);
    return v;
}
