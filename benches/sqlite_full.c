/* Makes Orthanc commit as durably as Isocenter does: its index asks SQLite for `synchronous=NORMAL`, by which a commit is
 * synced at checkpoints only, and has no setting for that. Preloaded, this asks for FULL instead. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <strings.h>

struct sqlite3;
typedef int (*callback)(void *, int, char **, char **);
typedef int (*exec)(struct sqlite3 *, const char *, callback, void *, char **);

int sqlite3_exec(struct sqlite3 *database, const char *sql, callback each, void *argument, char **error) {
    static exec real;
    if (!real) real = (exec)dlsym(RTLD_NEXT, "sqlite3_exec");
    if (sql && strcasecmp(sql, "PRAGMA SYNCHRONOUS=NORMAL;") == 0) {
        fputs("sqlite_full: commits are synced\n", stderr);
        sql = "PRAGMA SYNCHRONOUS=FULL;";
    }
    return real(database, sql, each, argument, error);
}
