#pragma once
/* Log lines: the event first, then key=value. They go to standard error, one write each. When that
 * is the journal of systemd, as $JOURNAL_STREAM says, the level is a priority in front. */

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* `name` is printed before each line and must outlive the program. Level, name and whether standard
 * error is the journal are the only state of this module: call it again when that has changed. */
void log_init(const char *name, enum log_level level);
/* -1 for a word that is no level. */
int log_level_parse(const char *word);
enum log_level log_level(void);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
