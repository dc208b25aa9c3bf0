/* What the processor can do and the operating system allows.
 *
 * The CPUID instruction tells what the processor has.  Registers wider than 128 bits are useful only
 * when the operating system saves them on a task switch, which XCR0 tells; a virtual machine or an old
 * kernel may have the instructions and not the registers.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A (CPUID) and
 * volume 1, chapter 13 (XCR0). */
#ifndef CAFFEBN_CPUID_H
#define CAFFEBN_CPUID_H

#include <stddef.h>

enum caffebn_register { CAFFEBN_EBX, CAFFEBN_ECX, CAFFEBN_EDX };

/* Bits of XCR0: the halves of ymm (and xmm); and with them the masks and the two parts of zmm. */
enum { CAFFEBN_XMM = 0, CAFFEBN_YMM = 0x06, CAFFEBN_ZMM = 0xe6 };

struct caffebn_feature {
    const char *name;
    unsigned leaf;
    enum caffebn_register reg;
    int bit;
    unsigned saved; /* what of XCR0 must be set */
};

static const struct caffebn_feature caffebn_features[] = {
    {"sse3", 1, CAFFEBN_ECX, 0, CAFFEBN_XMM},
    {"ssse3", 1, CAFFEBN_ECX, 9, CAFFEBN_XMM},
    {"fma", 1, CAFFEBN_ECX, 12, CAFFEBN_YMM},
    {"cx16", 1, CAFFEBN_ECX, 13, CAFFEBN_XMM},
    {"sse4.1", 1, CAFFEBN_ECX, 19, CAFFEBN_XMM},
    {"sse4.2", 1, CAFFEBN_ECX, 20, CAFFEBN_XMM},
    {"movbe", 1, CAFFEBN_ECX, 22, CAFFEBN_XMM},
    {"popcnt", 1, CAFFEBN_ECX, 23, CAFFEBN_XMM},
    {"avx", 1, CAFFEBN_ECX, 28, CAFFEBN_YMM},
    {"f16c", 1, CAFFEBN_ECX, 29, CAFFEBN_YMM},
    {"bmi", 7, CAFFEBN_EBX, 3, CAFFEBN_XMM},
    {"avx2", 7, CAFFEBN_EBX, 5, CAFFEBN_YMM},
    {"bmi2", 7, CAFFEBN_EBX, 8, CAFFEBN_XMM},
    {"avx512f", 7, CAFFEBN_EBX, 16, CAFFEBN_ZMM},
    {"avx512dq", 7, CAFFEBN_EBX, 17, CAFFEBN_ZMM},
    {"avx512cd", 7, CAFFEBN_EBX, 28, CAFFEBN_ZMM},
    {"avx512bw", 7, CAFFEBN_EBX, 30, CAFFEBN_ZMM},
    {"avx512vl", 7, CAFFEBN_EBX, 31, CAFFEBN_ZMM},
    {"sahf", 0x80000001u, CAFFEBN_ECX, 0, CAFFEBN_XMM},
    {"lzcnt", 0x80000001u, CAFFEBN_ECX, 5, CAFFEBN_XMM},
};

static const size_t caffebn_n_features = sizeof caffebn_features / sizeof *caffebn_features;

/* This module is compiled with the same OpenMP flags as the kernels. */
#ifdef _OPENMP
#define CAFFEBN_OPENMP 1
#else
#define CAFFEBN_OPENMP 0
#endif

#if defined(__x86_64__)

#include <cpuid.h>

#define CAFFEBN_X86_64 1

static unsigned caffebn_xcr0(void) {
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 27 & 1)) /* OSXSAVE: XCR0 can be read */
        return 0;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

static int caffebn_has(const struct caffebn_feature *f) {
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid_count(f->leaf, 0, &eax, &ebx, &ecx, &edx))
        return 0;
    unsigned word = f->reg == CAFFEBN_EBX ? ebx : f->reg == CAFFEBN_ECX ? ecx : edx;
    return (word >> f->bit & 1) && (caffebn_xcr0() & f->saved) == f->saved;
}

#else

#define CAFFEBN_X86_64 0

static int caffebn_has(const struct caffebn_feature *f) {
    (void)f;
    return 0;
}

#endif
#endif
