/* A hostile PKCS#11 module for tests: as soon as it is loaded it tries to leave the worker's sandbox, and writes what
 * came of it to $HOSTILE_DIR/result, one line for each try: its name and the error number, 0 when it worked. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static FILE *out;

static void note(const char *name, long result) {
    fprintf(out, "%s %d\n", name, result < 0 ? errno : 0);
}

static int connect_to(int port, int type) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int s = socket(AF_INET, type, 0);
    return s < 0 ? -1 : connect(s, (struct sockaddr *)&to, sizeof to);
}

/* In a child where there can be one, so that what works does no harm to the worker. */
static void apart(const char *name, long (*try)(void)) {
    fflush(out);
    pid_t child = fork();
    if (child < 0) { note(name, try()); return; }
    if (child == 0) _exit(try() < 0 ? errno : 0);
    int status = 0;
    waitpid(child, &status, 0);
    fprintf(out, "%s %d\n", name, WEXITSTATUS(status));
}

static long run(void) { char *argv[] = {"true", NULL}; return execv("/bin/true", argv); }
static long namespace(void) { return unshare(CLONE_NEWNET); }
static long user(void) { return unshare(CLONE_NEWUSER); }

__attribute__((constructor)) static void begin(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s/result", getenv("HOSTILE_DIR"));
    out = fopen(path, "w");
    if (!out) _exit(70);
    int victim = atoi(getenv("HOSTILE_VICTIM"));
    note("shadow", open("/etc/shadow", O_RDONLY));
    snprintf(path, sizeof path, "%s/../elsewhere", getenv("HOSTILE_DIR"));
    note("write", open(path, O_WRONLY | O_CREAT, 0600));
    note("connect", connect_to(atoi(getenv("HOSTILE_PORT")), SOCK_STREAM));
    note("datagram", connect_to(9, SOCK_DGRAM));
    note("packets", socket(AF_PACKET, SOCK_RAW, 0));
    note("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    note("ptrace", ptrace(PTRACE_ATTACH, victim, 0, 0));
    char byte;
    struct iovec local = {&byte, 1}, remote = {(void *)out, 1};
    note("peek", process_vm_readv(getppid(), &local, 1, &remote, 1, 0) < 0 && errno != EFAULT ? -1 : 0);
    note("kill", kill(victim, 0));
    note("dumpable", prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    apart("execve", run);
    apart("unshare", namespace);
    apart("user", user);
    pid_t child = fork();
    if (child == 0) _exit(0);
    note("fork", child);
    if (child > 0) waitpid(child, NULL, 0);
    fclose(out);
}
