/* Tries system calls with harmless arguments, for the isolation test.
 *   syscalls NUMBER…   a line each: the number and its errno, 0 for success
 *   syscalls fork      makes processes until the kernel refuses: how many, and errno */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int bomb(void) {
    int made = 0, pid;
    while ((pid = fork()) > 0) made++;
    if (pid == 0) for (;;) pause();
    printf("%d %d\n", made, errno);
    fflush(stdout);
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGKILL);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "fork")) return bomb();
    for (int i = 1; i < argc; i++) {
        errno = 0;
        /* Addresses that nobody has: a call that gets as far as reading them fails with EFAULT. */
        long result = syscall(atol(argv[i]), -1L, -1L, -1L, -1L, -1L, -1L);
        printf("%s %d\n", argv[i], result < 0 ? errno : 0);
    }
    return 0;
}
