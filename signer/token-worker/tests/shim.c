/* A PKCS#11 module for tests that passes every call on to the real one ($SHIM_MODULE), writes down the calls that
 * matter ($SHIM_DIR/calls, one line each) and misbehaves when told to ($SHIM_DIR/fault, one line:
 * "<call> <action>"). It never answers a call by itself unless told to.
 *
 * Actions: a number N returns that CK_RV without asking the real module; "flip" damages the output; "stop" stops
 * the process (SIGSTOP) before the call; "exit" ends it. With "!" before the action it is done once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef unsigned char byte_t;
enum { CALLS = 68, LOGIN = 18, DESTROY = 22, FIND_INIT = 26, SIGN_INIT = 42, SIGN = 43, UNWRAP = 61 };
struct list { byte_t version[2]; void *call[CALLS]; };

static struct list real, ours;

static void path(char *out, size_t size, const char *name) {
    snprintf(out, size, "%s/%s", getenv("SHIM_DIR"), name);
}

static void note(const char *call) {
    char name[4096], line[64];
    path(name, sizeof name, "calls");
    int length = snprintf(line, sizeof line, "%s\n", call);
    int file = open(name, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file < 0 || write(file, line, (size_t)length) != length) abort();
    close(file);
}

/* 0: behave; 1: damage the output; anything else with *rv set: return it. */
static int fault(const char *call, ulong_t *rv) {
    char name[4096], text[128] = {0}, wanted[64], action[64];
    path(name, sizeof name, "fault");
    FILE *file = fopen(name, "r");
    if (!file) return 0;
    char *got = fgets(text, sizeof text, file);
    fclose(file);
    if (!got || sscanf(text, "%63s %63s", wanted, action) != 2 || strcmp(wanted, call) != 0) return 0;
    const char *what = action;
    if (*what == '!') { unlink(name); what++; }
    if (strcmp(what, "flip") == 0) return 1;
    if (strcmp(what, "stop") == 0) { raise(SIGSTOP); return 0; }
    if (strcmp(what, "exit") == 0) _exit(9);
    *rv = strtoul(what, NULL, 0);
    return 2;
}

#define BEGIN(name) ulong_t rv; note(name); int bad = fault(name, &rv); if (bad == 2) return rv

static ulong_t login(ulong_t s, ulong_t user, byte_t *pin, ulong_t length) {
    BEGIN("C_Login");
    return ((ulong_t (*)(ulong_t, ulong_t, byte_t *, ulong_t))real.call[LOGIN])(s, user, pin, length);
}

static ulong_t destroy(ulong_t s, ulong_t object) {
    BEGIN("C_DestroyObject");
    return ((ulong_t (*)(ulong_t, ulong_t))real.call[DESTROY])(s, object);
}

static ulong_t find_init(ulong_t s, void *t, ulong_t count) {
    BEGIN("C_FindObjectsInit");
    return ((ulong_t (*)(ulong_t, void *, ulong_t))real.call[FIND_INIT])(s, t, count);
}

static ulong_t sign_init(ulong_t s, void *mechanism, ulong_t key) {
    BEGIN("C_SignInit");
    return ((ulong_t (*)(ulong_t, void *, ulong_t))real.call[SIGN_INIT])(s, mechanism, key);
}

static ulong_t sign(ulong_t s, byte_t *data, ulong_t length, byte_t *out, ulong_t *out_length) {
    ulong_t (*call)(ulong_t, byte_t *, ulong_t, byte_t *, ulong_t *) = real.call[SIGN];
    /* Asking for the length signs nothing. */
    if (!out) return call(s, data, length, out, out_length);
    BEGIN("C_Sign");
    rv = call(s, data, length, out, out_length);
    if (bad == 1 && rv == 0) out[40] ^= 1;
    return rv;
}

static ulong_t unwrap(ulong_t s, void *mechanism, ulong_t key, byte_t *wrapped, ulong_t length, void *t, ulong_t count,
                      ulong_t *out) {
    BEGIN("C_UnwrapKey");
    return ((ulong_t (*)(ulong_t, void *, ulong_t, byte_t *, ulong_t, void *, ulong_t, ulong_t *))real.call[UNWRAP])(
        s, mechanism, key, wrapped, length, t, count, out);
}

ulong_t C_GetFunctionList(struct list **out) {
    void *module = dlopen(getenv("SHIM_MODULE"), RTLD_NOW);
    ulong_t (*get)(struct list **) = module ? dlsym(module, "C_GetFunctionList") : NULL;
    struct list *found;
    if (!get || get(&found) != 0) return 5;
    real = ours = *found;
    ours.call[LOGIN] = login;
    ours.call[DESTROY] = destroy;
    ours.call[FIND_INIT] = find_init;
    ours.call[SIGN_INIT] = sign_init;
    ours.call[SIGN] = sign;
    ours.call[UNWRAP] = unwrap;
    *out = &ours;
    return 0;
}
