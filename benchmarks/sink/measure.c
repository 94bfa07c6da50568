/* Runs a program and says what it cost: seconds on the wall, CPU seconds and memory of its process and all it waited for.
 *
 *     measure OUT PROGRAM [ARGUMENT]...      writes JSON to the file OUT, exits with the program's exit code
 *
 * A program of its own because a process inherits the peak memory of whatever forked it: of Python that is 30 MB.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

int main(int argc, char **argv) {
    struct timespec from, to;
    struct rusage used;
    int status;
    if (argc < 3) return 2;
    clock_gettime(CLOCK_MONOTONIC, &from);
    pid_t child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) != child) return 126;
    clock_gettime(CLOCK_MONOTONIC, &to);
    FILE *out = fopen(argv[1], "w");
    if (!out) return 126;
    double wall = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    fprintf(out, "{\"wall_s\": %.6f, \"cpu_s\": %.6f, \"rss_kib\": %ld}\n", wall,
            seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss);
    fclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
