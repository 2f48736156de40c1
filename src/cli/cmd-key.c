/* berth key: this user's identity, made and shown. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/peer.h"

static const char help[] =
    "usage: berth key [show|new]\n"
    "\n"
    "Shows the key that is this user's identity towards other peers, on a line of its own; makes "
    "it "
    "when\n"
    "there is none. `show` never makes one, `new` never shows an old one.\n"
    "\n"
    "The file is $BERTH_KEY, or ~/.config/berth/key. It holds the secret half: it is made for its "
    "user\n"
    "only (mode 0600), and refused when others can read it. Who has a copy of it is you.\n"
    "\n"
    "A key is 56 letters and digits, its last five a checksum, and works wherever a name does.\n";

static int key_make(const char *path, struct identity *ret_id)
{
    identity_make(ret_id);
    int r = identity_save(path, ret_id);
    if (r == -EEXIST)
        return cli_fail("key", "%s exists; an identity is not overwritten: move it away first",
                        path);
    if (r < 0)
        return cli_fail("key", "%s cannot be made: %s", path, strerror(-r));
    (void)fprintf(stderr, "made %s\n", path);
    return CLI_OK;
}

static int key_run(bool may_show, bool may_make)
{
    char path[4096], trouble[512], text[KEY_TEXT_MAX];
    struct identity id;
    int status = CLI_OK, r = -ENOENT;
    if (peer_key_path(path, sizeof path) < 0)
        return cli_fail("key", "neither $HOME nor $BERTH_KEY says where the key is to be");
    if (may_show)
        r = identity_load(path, &id, trouble, sizeof trouble);
    if (r == -ENOENT && may_make)
        status = key_make(path, &id);
    else if (r == -ENOENT)
        status = cli_fail("key", "there is no key yet: `berth key new` makes one");
    else if (r < 0)
        status = cli_fail("key", "%s", trouble);
    if (status == CLI_OK)
        (void)puts(key_format(&id.key, text));
    identity_wipe(&id);
    return status;
}

int cmd_key(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--help") == 0) {
        (void)fputs(help, stdout);
        return CLI_OK;
    }
    if (argc > 2)
        return cli_usage("key", "unexpected argument '%s'", argv[2]);
    bool show = strcmp(word, "show") == 0, new = strcmp(word, "new") == 0;
    if (argc > 1 && !show && !new)
        return cli_usage("key", "unexpected argument '%s'", word);
    int status = peer_start("key");
    return status == CLI_OK ? key_run(!new, !show) : status;
}
