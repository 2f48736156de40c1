/* SSH identification strings. */
#include "sniff-check.h"

TEST("four bytes tell an SSH client")
{
    struct sniffed s;
    CHECK_PREFIXES(ssh_sniff, STR("SSH-"));
    CHECK_VERDICT(ssh_sniff(STR("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), &s), SNIFF_DONE);
    CHECK_INT(s.proto, PROTO_SSH);
    CHECK_INT(s.host.n, 0);
    CHECK_SNIFF(ssh_sniff, "SSL", SNIFF_NOT);
}
