/* A plugin of qemu-user 7.2: counts executed AArch64 instructions by class.
 *
 * The guest calls getppid() as a mark; at each one the totals so far are written as a line "all ldst simd ... ". Whole
 * translated blocks are counted by inline additions, so a count is exact and the same under any load.
 *
 *   cc -O2 -shared -fPIC -o libcount.so count.c
 *   qemu-aarch64 -plugin ./libcount.so,out=FILE ...
 *
 * The plugin interface, version 1, is declared here: Debian's qemu-user brings no header.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block;
struct instruction;
struct qemu_info;
enum { INLINE_ADD = 0, GETPPID = 173 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct block *));
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern struct instruction *qemu_plugin_tb_get_insn(const struct block *, size_t);
extern const void *qemu_plugin_insn_data(const struct instruction *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t,
                                                                    uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                                                    uint64_t));

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* The order is that of CLASSES in emulator.py. Classes other than ALL overlap: a dot product is a SIMD instruction. */
enum { ALL, LOAD_STORE, SIMD, FLOAT_FMA, WIDENING_MAC, DOT_PRODUCT, CLASSES };

static uint64_t totals[CLASSES];
static FILE *out;

/* By the encodings of the Arm Architecture Reference Manual, C4.1: bits 28..25 are the group, then single opcodes. */
static void classify(uint32_t word, uint64_t *counts)
{
    unsigned group = (word >> 25) & 15;

    counts[ALL]++;
    if ((group & 5) == 4)
        counts[LOAD_STORE]++;
    if ((group & 7) != 7)
        return;
    counts[SIMD]++;
    if ((word & 0xBFA0FC00u) == 0x0E20CC00u || (word & 0xBF80F400u) == 0x0F801000u)
        counts[FLOAT_FMA]++; /* FMLA: vectors; by element */
    else if ((word & 0x9F20FC00u) == 0x0E208000u || (word & 0x9F00F400u) == 0x0F002000u)
        counts[WIDENING_MAC]++; /* SMLAL, SMLAL2, UMLAL, UMLAL2: vectors; by element */
    else if ((word & 0x9F20FC00u) == 0x0E009400u || (word & 0x9F00F400u) == 0x0F00E000u)
        counts[DOT_PRODUCT]++; /* SDOT, UDOT: vectors; by element */
}

static void on_translate(plugin_id id, struct block *block)
{
    uint64_t counts[CLASSES] = {0};
    size_t length = qemu_plugin_tb_n_insns(block);

    (void)id;
    for (size_t i = 0; i < length; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
        classify(word, counts);
    }
    for (int i = 0; i < CLASSES; i++)
        if (counts[i])
            qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD, &totals[i], counts[i]);
}

static void on_syscall(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != GETPPID)
        return;
    for (int i = 0; i < CLASSES; i++)
        fprintf(out, "%llu ", (unsigned long long)totals[i]);
    fputc('\n', out);
    fflush(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc,
                                                               char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || !(out = fopen(argv[0] + 4, "w"))) {
        fprintf(stderr, "count: give out=FILE, a file that can be written\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
