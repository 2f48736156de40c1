/* Lines into sections, keys and values. libinih judges the syntax, one line at a time and only its
 * beginning: given a whole text it names just the first bad line, cuts lines at 200 bytes and names
 * at 50, joins indented lines to the one above and takes what follows a semicolon for a comment.
 * The value is taken from the line itself, by words.c. */
#include <errno.h>
#include <ini.h>
#include <stdlib.h>

#include "base/nearest.h"
#include "conf/reader.h"
#include "conf/value.h"

/* Longer than every name in the schema, and with what goes round it shorter than what libinih
 * reads. */
#define NAME_MAX_CHARS 48

static struct str trim(struct str s)
{
    while (s.n > 0 && (*s.p == ' ' || *s.p == '\t' || *s.p == '\r'))
        s = str_skip(s, 1);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
        s.n--;
    return s;
}

/* How many bytes the character at p has; 0 when it is none (RFC 3629 3). */
static size_t utf8_size(const uint8_t *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (size == 0 || size > n || p[0] > 0xf4)
        return 0;
    uint32_t c = size == 1 ? p[0] : p[0] & (0xffu >> (size + 1));
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    return c < least[size] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : size;
}

/* What is wrong with the bytes of a line, or NULL. */
static const char *bytes_check(struct str line)
{
    for (size_t i = 0; i < line.n;) {
        uint8_t c = (uint8_t)line.p[i];
        size_t size = utf8_size((const uint8_t *)line.p + i, line.n - i);
        if (c == 0)
            return "the line has a NUL byte: is this a text file? Take the byte out";
        if (size == 0)
            return "the line is not valid UTF-8: save the file in that encoding";
        if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f)
            return "the line has a control character: take it out, or write it as \\x1b";
        i += size;
    }
    return NULL;
}

/* What libinih found in a line. */
struct syntax {
    bool is_key;
    char name[NAME_MAX_CHARS + 4];
    char value[8];
};

static int syntax_handle(void *ctx, const char *section, const char *name, const char *value)
{
    struct syntax *s = ctx;
    (void)section;
    s->is_key = true;
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    (void)snprintf(s->value, sizeof s->value, "%s", value ? value : "");
    return 1;
}

/* 0, or -EINVAL for what is neither section nor key nor comment. The value is left out. */
static int syntax_judge(struct str line, struct syntax *ret_syntax)
{
    char text[NAME_MAX_CHARS + 8];
    const char *equals = memchr(line.p, '=', line.n), *close = memchr(line.p, ']', line.n);
    *ret_syntax = (struct syntax){0};
    struct str head = line;
    const char *tail = "";
    if (line.p[0] == '[' && close)
        head.n = (size_t)(close - line.p), tail = "]";
    else if (line.p[0] != '[' && equals)
        head = trim((struct str){line.p, (size_t)(equals - line.p)}), tail = "=.";
    if (head.n > NAME_MAX_CHARS)
        head.n = NAME_MAX_CHARS;
    (void)snprintf(text, sizeof text, STR_FMT "%s\n", STR_ARG(head), tail);
    return ini_parse_string(text, syntax_handle, ret_syntax) == 0 ? 0 : -EINVAL;
}

/* Sections */

static void section_show(struct conf_reader *r, struct str text)
{
    (void)snprintf(r->shown, sizeof r->shown, STR_FMT, STR_ARG(text));
    for (char *c = r->shown; *c; c++)
        if ((uint8_t)*c < ' ')
            *c = '?';
    /* Cut in the middle of a character, it would be invalid. */
    size_t n = strlen(r->shown);
    for (size_t at = 0; at < n;) {
        size_t size = utf8_size((const uint8_t *)r->shown + at, n - at);
        if (size == 0)
            r->shown[n = at] = 0;
        at += size;
    }
}

static const struct conf_place *place_of(const struct conf_schema *s, const void *object)
{
    return (const struct conf_place *)((const char *)object + s->place);
}

static void section_open(struct conf_reader *r, enum conf_section section, void *object)
{
    r->schema = conf_schema(section);
    r->object = object;
    struct conf_place *place = (struct conf_place *)place_of(r->schema, object);
    place->file = r->file;
    place->line = r->line;
    memset(r->lines, 0, sizeof r->lines);
    r->bad = 0;
    if (r->route_room)
        memset(r->route_lines, 0, r->route_room * sizeof *r->route_lines);
}

/* One more zeroed element behind an array; it grows when its length is a power of two. */
static void *element_add(void **items, size_t *count, size_t size)
{
    if ((*count & (*count - 1)) == 0) {
        void *more = reallocarray(*items, *count ? *count * 2 : 1, size);
        if (!more)
            return NULL;
        *items = more;
    }
    void *element = (char *)*items + *count * size;
    memset(element, 0, size);
    (*count)++;
    return element;
}

static bool name_is_good(struct str name)
{
    bool good = name.n > 0 && name.n <= CONF_NAME_MAX && name.p[0] != '.' && name.p[0] != '-';
    for (size_t i = 0; good && i < name.n; i++)
        good = ascii_is_alpha(name.p[i]) || ascii_is_digit(name.p[i]) ||
               (name.p[i] && strchr("._-", name.p[i]));
    return good;
}

/* "blog" for /etc/berth/apps.d/blog.conf. */
static struct str file_name(const char *file)
{
    const char *slash = strrchr(file, '/');
    struct str name = str_of(slash ? slash + 1 : file);
    if (name.n > 5 && memcmp(name.p + name.n - 5, ".conf", 5) == 0)
        name.n -= 5;
    return name;
}

static void app_open(struct conf_reader *r, struct str name)
{
    struct conf *c = r->conf;
    if (name.n == 0)
        name = file_name(r->file);
    else if (!name_is_good(name)) {
        conf_complain(r, r->line, "",
                      "this cannot be an application's name: write letters, digits, dots, hyphens "
                      "and underscores, at most %d, beginning with a letter or digit",
                      CONF_NAME_MAX);
        return;
    }
    if (!name_is_good(name) || str_eq(name, STR("berth"))) {
        conf_complain(r, r->line, "", "in this file the section wants a name: write [app NAME]");
        return;
    }
    char text[CONF_NAME_MAX + 1];
    (void)snprintf(text, sizeof text, STR_FMT, STR_ARG(name));
    int64_t there = conf_index_add(c->names, text, (uint32_t)c->app_count);
    if (there >= 0 && there != CONF_INDEX_NONE) {
        const struct conf_place *first = &c->apps[there].place;
        conf_complain(r, r->line, "",
                      "there is an application %s already, at %s:%u: give this one another name, "
                      "or put its keys there",
                      text, first->file, first->line);
        return;
    }
    struct conf_app *app =
        there < 0 ? NULL : element_add((void **)&c->apps, &c->app_count, sizeof *app);
    if (app) {
        *app = r->app;
        app->name = strdup(text);
    }
    r->short_of_memory |= !app || !app->name;
    if (!r->short_of_memory)
        section_open(r, CONF_SECTION_APP, app);
}

/* The number of the reservation that has one of the routes already, or -1. */
static int64_t reserve_note(struct conf_reader *r, const char *route)
{
    struct route routes[2];
    char canonical[ROUTE_TEXT_MAX];
    size_t n = conf_route(route, routes);
    for (size_t i = 0; i < n; i++) {
        int64_t there = conf_index_add(r->reserved, route_format(&routes[i], canonical),
                                       (uint32_t)r->conf->reserve_count);
        r->short_of_memory |= there < 0;
        if (there >= 0 && there < (int64_t)r->conf->reserve_count)
            return there;
    }
    return -1;
}

static void reserve_open(struct conf_reader *r, struct str name)
{
    struct conf *c = r->conf;
    struct route routes[2];
    char route[ROUTE_TEXT_MAX], reason[ROUTE_REASON_MAX];
    if (name.n == 0) {
        conf_complain(r, r->line, "",
                      "which name is reserved? Write [reserve http://shop.example/]");
        return;
    }
    if (name.n >= sizeof route) {
        conf_complain(r, r->line, "", "a route has at most %d characters", ROUTE_TEXT_MAX - 1);
        return;
    }
    (void)snprintf(route, sizeof route, STR_FMT, STR_ARG(name));
    if (route_expand(route, routes, reason) < 0) {
        conf_complain(r, r->line, "", "%s", reason);
        return;
    }
    int64_t there = reserve_note(r, route);
    if (there >= 0) {
        const struct conf_place *first = &c->reserves[there].place;
        conf_complain(r, r->line, "", "this is reserved already, at %s:%u: keep one of the two",
                      first->file, first->line);
        return;
    }
    struct conf_reserve *new = element_add((void **)&c->reserves, &c->reserve_count, sizeof *new);
    if (new) {
        *new = r->reserve;
        new->route = strdup(route);
    }
    r->short_of_memory |= !new || !new->route;
    if (!r->short_of_memory)
        section_open(r, CONF_SECTION_RESERVE, new);
}

/* Keeps the lines of the keys that were given, for complaints after the reading. The section
 * [berth] may stand in several files, and has none. */
static void lines_keep(struct conf_reader *r)
{
    struct conf_place *place = (struct conf_place *)place_of(r->schema, r->object);
    size_t n = 0;
    if (r->schema == conf_schema(CONF_SECTION_BERTH) || !place->given)
        return;
    place->lines = calloc((size_t)__builtin_popcountll(place->given), sizeof *place->lines);
    r->short_of_memory |= !place->lines;
    for (size_t i = 0; place->lines && i < r->schema->count; i++)
        if (place->given >> i & 1)
            place->lines[n++] = r->lines[i];
}

static void section_close(struct conf_reader *r)
{
    if (r->schema) {
        conf_section_check(r);
        lines_keep(r);
    }
    r->schema = NULL;
    r->object = NULL;
    r->passed_over = true;
}

static void section_unknown(struct conf_reader *r, struct str word)
{
    char text[NAME_MAX_CHARS];
    const char *names[CONF_SECTIONS + 1] = {0};
    (void)snprintf(text, sizeof text, STR_FMT, STR_ARG(word));
    for (int i = 0; i < CONF_SECTIONS; i++)
        names[i] = conf_schema(i)->name;
    const char *near = nearest_word(text, names);
    if (near)
        conf_complain(r, r->line, "", "there is no section of this kind; did you mean [%s]?", near);
    else
        conf_complain(r, r->line, "",
                      "there is no section of this kind: write [berth], [app NAME] or "
                      "[reserve ROUTE]");
}

/* A comment begins with # or ; behind a blank. */
static struct str comment_cut(struct str line)
{
    for (size_t i = 1; i < line.n; i++)
        if ((line.p[i] == '#' || line.p[i] == ';') &&
            (line.p[i - 1] == ' ' || line.p[i - 1] == '\t'))
            return trim((struct str){line.p, i});
    return line;
}

static void section_read(struct conf_reader *r, struct str line)
{
    section_close(r);
    line = comment_cut(line);
    struct str text = trim((struct str){line.p + 1, line.n - (line.n > 1 ? 2 : 1)});
    section_show(r, text);
    if (line.p[line.n - 1] != ']') {
        conf_complain(r, r->line, "", "a section ends with ], and nothing may follow it");
        return;
    }
    size_t n = 0;
    while (n < text.n && text.p[n] != ' ' && text.p[n] != '\t')
        n++;
    struct str word = {text.p, n}, argument = trim(str_skip(text, n));
    if (str_eq(word, STR("berth")) && argument.n == 0)
        section_open(r, CONF_SECTION_BERTH, &r->conf->global);
    else if (str_eq(word, STR("app")))
        app_open(r, argument);
    else if (str_eq(word, STR("reserve")))
        reserve_open(r, argument);
    else
        section_unknown(r, word);
}

/* Keys */

static void key_unknown(struct conf_reader *r, const char *name)
{
    const char *names[65] = {0};
    for (size_t i = 0; i < r->schema->count && i < 64; i++)
        names[i] = r->schema->keys[i].name;
    const char *near = nearest_word(name, names);
    if (near) {
        conf_complain(r, r->line, name, "there is no such key; did you mean `%s`?", near);
        return;
    }
    for (int i = 0; i < CONF_SECTIONS; i++) {
        if (!conf_key_find(conf_schema(i), name))
            continue;
        conf_complain(r, r->line, name, "this key belongs into a section [%s%s%s]",
                      conf_schema(i)->name, conf_schema(i)->argument ? " " : "",
                      conf_schema(i)->argument ? conf_schema(i)->argument : "");
        return;
    }
    conf_complain(r, r->line, name, "there is no such key: berth.conf(5) lists them");
}

/* The routes that are new came from this line. */
static void routes_note(struct conf_reader *r, size_t count)
{
    if (count > r->route_room) {
        size_t room = count * 2;
        unsigned *lines = reallocarray(r->route_lines, room, sizeof *lines);
        r->short_of_memory |= !lines;
        if (!lines)
            return;
        memset(lines + r->route_room, 0, (room - r->route_room) * sizeof *lines);
        r->route_lines = lines;
        r->route_room = room;
    }
    for (size_t i = count; i > 0 && r->route_lines[i - 1] == 0; i--)
        r->route_lines[i - 1] = r->line;
}

static void value_read(struct conf_reader *r, const struct conf_key *key, struct str text)
{
    const struct conf_ops *ops = conf_ops(key->type);
    size_t number = (size_t)(key - r->schema->keys);
    struct conf_place *place = (struct conf_place *)place_of(r->schema, r->object);
    char reason[CONF_REASON_MAX] = "";
    if ((place->given >> number & 1) && (!ops->count || ops->one_line)) {
        conf_complain(r, r->line, key->name, "this key may be given once%s%s",
                      r->lines[number] ? "" : ", and another section has it",
                      ops->one_line ? ": end a line with a backslash to go on in the next" : "");
        return;
    }
    place->given |= (uint64_t)1 << number;
    r->lines[number] = r->lines[number] ? r->lines[number] : r->line;
    const struct conf_value v = {key, r->words, reason};
    int err = conf_words_split(text, r->words, reason);
    if (err == 0)
        err = ops->parse(&v, (char *)r->object + key->offset);
    if (key->type == CONF_ROUTES)
        routes_note(r, ops->count((char *)r->object + key->offset));
    if (err == -ENOMEM)
        r->short_of_memory = true;
    if (err >= 0 || err == -ENOMEM)
        return;
    r->bad |= (uint64_t)1 << number;
    conf_complain(r, r->line, key->name, "%s", reason);
}

static void key_read(struct conf_reader *r, const struct syntax *s, struct str line)
{
    if (strcmp(s->value, ".") != 0) {
        conf_complain(r, r->line, s->name,
                      "a key and its value are separated by =, not by a colon");
        return;
    }
    if (!r->schema && r->passed_over)
        return;
    if (!r->schema) {
        conf_complain(r, r->line, s->name,
                      "this key is outside of a section: put [berth] or [app NAME] above it");
        return;
    }
    if (!s->name[0]) {
        conf_complain(r, r->line, "", "the key before the = is missing");
        return;
    }
    const struct conf_key *key = conf_key_find(r->schema, s->name);
    const char *equals = memchr(line.p, '=', line.n);
    if (!key)
        key_unknown(r, s->name);
    else if (equals)
        value_read(r, key, trim(str_skip(line, (size_t)(equals - line.p) + 1)));
}

static void syntax_complain(struct conf_reader *r, struct str line)
{
    if (line.p[0] == '[')
        section_close(r);
    conf_complain(r, r->line, "", "\"%.*s\" is neither [section], key = value nor # comment",
                  line.n > 60 ? 60 : (int)line.n, line.p);
}

static void line_read(struct conf_reader *r, struct str line)
{
    struct syntax syntax;
    const char *wrong = bytes_check(line);
    line = trim(line);
    if (wrong)
        conf_complain(r, r->line, "", "%s", wrong);
    else if (line.n == 0)
        return;
    else if (syntax_judge(line, &syntax) < 0)
        syntax_complain(r, line);
    else if (line.p[0] == '[')
        section_read(r, line);
    else if (syntax.is_key)
        key_read(r, &syntax, line);
}

/* One line that may go on in the next, behind a backslash. */
struct joined {
    char text[CONF_LINE_MAX];
    size_t n;
    bool too_long;
};

static void joined_add(struct joined *j, struct str part)
{
    if (part.n > sizeof j->text - j->n) {
        j->too_long = true;
        return;
    }
    memcpy(j->text + j->n, part.p, part.n);
    j->n += part.n;
}

static struct str line_take(struct str *text)
{
    const char *end = memchr(text->p, '\n', text->n);
    struct str line = {text->p, end ? (size_t)(end - text->p) : text->n};
    *text = str_skip(*text, line.n + 1);
    return line;
}

/* An odd number of backslashes at the end: the last one is not escaped. A comment never goes on. */
static bool goes_on(struct str line)
{
    size_t n = 0;
    struct str inner = trim(line);
    if (inner.n > 0 && (*inner.p == '#' || *inner.p == ';'))
        return false;
    while (n < inner.n && inner.p[inner.n - 1 - n] == '\\')
        n++;
    return n % 2 == 1;
}

/* Gives the next whole line, however many lines of the text it has, and returns how many. */
static unsigned joined_take(struct str *text, struct joined *j)
{
    unsigned lines = 0;
    j->n = 0;
    j->too_long = false;
    while (text->n > 0) {
        struct str line = line_take(text);
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        bool more = goes_on(line) && text->n > 0;
        lines++;
        if (more) {
            line = trim(line);
            line.n--;
        }
        joined_add(j, line);
        if (!more)
            break;
        joined_add(j, STR(" "));
    }
    return lines;
}

void conf_lines_read(struct conf_reader *r, struct str text)
{
    struct joined *j = malloc(sizeof *j);
    r->short_of_memory |= !j;
    r->shown[0] = 0;
    r->passed_over = false;
    if (str_starts(text, STR("\xef\xbb\xbf"))) /* a byte order mark */
        text = str_skip(text, 3);
    unsigned next = 1;
    while (text.n > 0 && !r->short_of_memory) {
        r->line = next;
        next += joined_take(&text, j);
        if (j->too_long)
            conf_complain(r, r->line, "",
                          "the line is longer than %d bytes: keys that are lists may be repeated, "
                          "a line for each value",
                          CONF_LINE_MAX);
        else
            line_read(r, (struct str){j->text, j->n});
    }
    section_close(r);
    r->shown[0] = 0;
    free(j);
}
