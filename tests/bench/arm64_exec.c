/* Lets the toy phone's shell run ARM64 programs on a computer of another kind, as binfmt_misc would, which needs root.
 *
 * Loaded into the shell by adbd.py --arm64 RUNNER: a program whose ELF header names ARM64 is started as RUNNER PROGRAM ARGUMENTS.
 * What the host sends to the phone stays as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MACHINE = 18, AARCH64 = 183 };

static int is_arm64(const char *path)
{
    unsigned char head[20];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    int whole = read(file, head, sizeof head) == sizeof head;
    close(file);
    return whole && !memcmp(head, "\177ELF", 4) && head[MACHINE] == AARCH64 && head[MACHINE + 1] == 0;
}

int execve(const char *path, char *const arguments[], char *const environment[])
{
    int (*real)(const char *, char *const[], char *const[]) = dlsym(RTLD_NEXT, "execve");
    char *runner = getenv("TOY_ARM64");
    if (!runner || access(path, X_OK) || !is_arm64(path))
        return real(path, arguments, environment);
    size_t count = 0;
    while (arguments[count])
        count++;
    char **changed = calloc(count + 2, sizeof *changed);
    changed[0] = runner;
    changed[1] = (char *)path;
    for (size_t i = 1; i < count; i++)
        changed[i + 1] = arguments[i];
    return real(runner, changed, environment);
}
