#pragma once
/* The sandbox of berth-peer. Unlike the others it has files: the identity's folder and the runtime
 * folder. */

#include "base/fd.h"

/* Everything under these folders may be read and changed; what names of hosts are looked up by may
 * be read; nothing else has a name, and nothing can be executed. The kernel's version of Landlock,
 * or -ENOTSUP. */
int sandbox_peer_files(const char *const *folders, size_t count) WARN_UNUSED;
/* No new privileges, and only the system calls that sessions, files and looking hosts up take: no
 * programs. -ENOTSUP in sanitizer builds. */
int sandbox_peer_calls(void) WARN_UNUSED;
