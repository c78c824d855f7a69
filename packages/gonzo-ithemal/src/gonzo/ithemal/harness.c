/* Time basic blocks, each in a sandboxed child of this process.
 *
 * Requests arrive on standard input and answers leave on standard output, as the packed structs
 * below. For each request the block is copied n times back to back, and a forked child
 *
 *   1. closes every descriptor, limits itself and installs a system-call filter;
 *   2. runs the copies once, while a fault handler maps every page they touch to one of PAGES
 *      physical pages (one page alone is wrong: stores and loads to different pages alias);
 *   3. narrows the filter to exit_group and rt_sigreturn, so nothing can be mapped any more;
 *   4. times n copies and n/2 copies in turn, registers and memory as at the start each time, and
 *      between them a chain of dependent multiplications, which is the clock (ticks per core
 *      cycle), and a gauge of whether another thread of the core is awake;
 *   5. leaves interquartile means over the trials in the shared page and exits.
 *
 * The block may do what it likes to its child. It has no descriptor and no system call; the one
 * page that it shares with the parent is read as numbers that may be lies.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <math.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif

enum {
  PAGE = 4096,
  PAGES = 8,              /* as many as a first-level cache of 32 KiB holds */
  MAX_VIRTUAL_PAGES = 256,
  MAX_CODE = 1024,
  MAX_UNROLLED = 16 * 1024,
  MAX_REPEATS = 8,
  MIN_TRIALS = 8,          /* fewer quiet ones are not enough */
  MAX_TRIALS = 64,
  MAX_TRIED = 1024,
  BUDGET = 3000000,       /* ticks until no more quiet trials are waited for */
  ADDITIONS = 240,
  PRODUCTS = 60,
  SHORT_CHAIN = 4,
  LONG_CHAIN = 20,
};

/* Where things are in a child. The same numbers are in block.py and, as text, in the stub. */
#define CONTROL 0x0ffe0000UL
#define STUB 0x0fff0000UL
#define BLOCK_BASE 0x10000000UL
#define INITIAL 0x02324000UL /* every register and every word of memory: a pointer to more of it */

struct request {
  uint32_t magic, length, copies, fixups, vector, locked, trials, timeout_ms;
  uint32_t pages; /* physical pages, 1 to PAGES */
  uint32_t instructions;
};

struct answer {
  uint32_t status, pages;
  double cycles, spread, clock;
  uint32_t quiet; /* trials that nothing disturbed, or 0 where all trials had to do */
  uint32_t detail;
};

enum status {
  OK = 0,
  NO_RESULT,       /* the child ended without one */
  LOW_ADDRESS,     /* below 64 KiB */
  BAD_ADDRESS,     /* non-canonical, or where something else is */
  PROTECTED,       /* a write to code, or a jump to data */
  TOO_MANY_PAGES,
  LATE_FAULT,      /* a page that the first run did not touch */
  SIGNAL,          /* detail says which */
  TIMEOUT,
  UNSTABLE,        /* the times make no sense */
  SETUP,           /* the child could not build its sandbox; detail is errno */
};

#define MAGIC 0x6f7a6e67u

/* ---------------------------------------------------------------- the code around the block */

/* CONTROL: +0 stack pointer, +8 entry, +16 repeats, +24 start, +32 counter index or -1, +40 flags
 * (1: SSE, 2: AVX, 4: AVX-512, 8: alignment checks), +48 whether the first repeat is over, +64
 * sixty-four bytes of 1.0f. The first repeat warms caches and decoders and is not timed. Each repeat
 * begins behind an lfence: without it the next one would run beside the end of the last, and chains
 * of dependent instructions seem shorter than they are. */
asm(".pushsection .rodata\n"
    ".globl stub_begin, stub_done, stub_end\n"
    "stub_begin:\n"
    "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "  mov %rsp, 0x0ffe0000\n"
    "  mov %rdi, 0x0ffe0008\n"
    "  mov %rsi, 0x0ffe0010\n"
    "  movq $0, 0x0ffe0030\n"
    "  testb $8, 0x0ffe0028; jz 1f\n"
    "  pushfq; orl $0x40000, (%rsp); popfq\n"
    "1: incq 0x0ffe0010\n"
    "stub_again:\n"
    "  testb $1, 0x0ffe0028; jz 4f\n"
    "  movaps 0x0ffe0040, %xmm0; movaps %xmm0, %xmm1; movaps %xmm0, %xmm2; movaps %xmm0, %xmm3\n"
    "  movaps %xmm0, %xmm4; movaps %xmm0, %xmm5; movaps %xmm0, %xmm6; movaps %xmm0, %xmm7\n"
    "  movaps %xmm0, %xmm8; movaps %xmm0, %xmm9; movaps %xmm0, %xmm10; movaps %xmm0, %xmm11\n"
    "  movaps %xmm0, %xmm12; movaps %xmm0, %xmm13; movaps %xmm0, %xmm14; movaps %xmm0, %xmm15\n"
    "4: testb $2, 0x0ffe0028; jz 5f\n"
    "  vmovaps 0x0ffe0040, %ymm0; vmovaps %ymm0, %ymm1; vmovaps %ymm0, %ymm2\n"
    "  vmovaps %ymm0, %ymm3; vmovaps %ymm0, %ymm4; vmovaps %ymm0, %ymm5; vmovaps %ymm0, %ymm6\n"
    "  vmovaps %ymm0, %ymm7; vmovaps %ymm0, %ymm8; vmovaps %ymm0, %ymm9; vmovaps %ymm0, %ymm10\n"
    "  vmovaps %ymm0, %ymm11; vmovaps %ymm0, %ymm12; vmovaps %ymm0, %ymm13\n"
    "  vmovaps %ymm0, %ymm14; vmovaps %ymm0, %ymm15\n"
    "5: testb $4, 0x0ffe0028; jz 6f\n"
    "  vmovaps 0x0ffe0040, %zmm0; vmovaps %zmm0, %zmm1; vmovaps %zmm0, %zmm2\n"
    "  vmovaps %zmm0, %zmm3; vmovaps %zmm0, %zmm4; vmovaps %zmm0, %zmm5; vmovaps %zmm0, %zmm6\n"
    "  vmovaps %zmm0, %zmm7; vmovaps %zmm0, %zmm8; vmovaps %zmm0, %zmm9; vmovaps %zmm0, %zmm10\n"
    "  vmovaps %zmm0, %zmm11; vmovaps %zmm0, %zmm12; vmovaps %zmm0, %zmm13\n"
    "  vmovaps %zmm0, %zmm14; vmovaps %zmm0, %zmm15; vmovaps %zmm0, %zmm16\n"
    "  vmovaps %zmm0, %zmm17; vmovaps %zmm0, %zmm18; vmovaps %zmm0, %zmm19\n"
    "  vmovaps %zmm0, %zmm20; vmovaps %zmm0, %zmm21; vmovaps %zmm0, %zmm22\n"
    "  vmovaps %zmm0, %zmm23; vmovaps %zmm0, %zmm24; vmovaps %zmm0, %zmm25\n"
    "  vmovaps %zmm0, %zmm26; vmovaps %zmm0, %zmm27; vmovaps %zmm0, %zmm28\n"
    "  vmovaps %zmm0, %zmm29; vmovaps %zmm0, %zmm30; vmovaps %zmm0, %zmm31\n"
    "  kxnorw %k1, %k1, %k1; kxnorw %k2, %k2, %k2; kxnorw %k3, %k3, %k3; kxnorw %k4, %k4, %k4\n"
    "  kxnorw %k5, %k5, %k5; kxnorw %k6, %k6, %k6; kxnorw %k7, %k7, %k7\n"
    "6: xor %eax, %eax\n"
    "  mov $0x02324000, %eax; mov $0x02324000, %ebx; mov $0x02324000, %ecx\n"
    "  mov $0x02324000, %edx; mov $0x02324000, %esi; mov $0x02324000, %edi\n"
    "  mov $0x02324800, %ebp; mov $0x02324800, %esp\n"
    "  mov $0x02324000, %r8d; mov $0x02324000, %r9d; mov $0x02324000, %r10d\n"
    "  mov $0x02324000, %r11d; mov $0x02324000, %r12d; mov $0x02324000, %r13d\n"
    "  mov $0x02324000, %r14d; mov $0x02324000, %r15d\n"
    "  lfence\n"
    "  jmp *0x0ffe0008\n"
    "stub_done:\n"
    "  lfence\n"
    "  cmpq $0, 0x0ffe0030; jne 3f\n"
    "  mov $1, %eax; mov %rax, 0x0ffe0030\n"
    "  mov 0x0ffe0020, %ecx\n"
    "  test %ecx, %ecx; js 2f\n"
    "  rdpmc; jmp 1f\n"
    "2: rdtsc\n"
    "1: shl $32, %rdx; or %rdx, %rax; mov %rax, 0x0ffe0018\n"
    "  lfence\n"
    "3: decq 0x0ffe0010\n"
    "  jnz stub_again\n"
    "  lfence\n"
    "  mov 0x0ffe0020, %ecx\n"
    "  test %ecx, %ecx; js 7f\n"
    "  rdpmc; lfence; jmp 8f\n"
    "7: rdtscp; lfence\n"
    "8: shl $32, %rdx; or %rdx, %rax; sub 0x0ffe0018, %rax\n"
    "  mov 0x0ffe0000, %rsp\n"
    "  testb $8, 0x0ffe0028; jz 9f\n"
    "  pushfq; andl $~0x40000, (%rsp); popfq\n"
    "9: pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "  ret\n"
    "stub_end:\n"
    ".popsection\n");
extern const char stub_begin[], stub_done[], stub_end[];

typedef uint64_t (*run_fn)(uint64_t entry, uint64_t repeats);
#define RUN ((run_fn)STUB)

static int32_t counter_index = -1;

static inline uint64_t read_counter(void) {
  uint32_t low, high;
  if (counter_index >= 0)
    asm volatile("lfence; rdpmc; lfence" : "=a"(low), "=d"(high) : "c"(counter_index) : "memory");
  else
    asm volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high)::"memory");
  return (uint64_t)high << 32 | low;
}

/* Additions of registers: one cycle each everywhere. (Golden Cove does away with additions of small
 * constants before they are executed, so those tell no time.) */
static __attribute__((noinline)) uint64_t time_additions(uint64_t times) {
  uint64_t began = read_counter(), x = 1, y = 3;
  asm volatile("1:\n .rept 240\n add %1, %0\n .endr\n dec %2\n jnz 1b"
               : "+r"(x), "+r"(y), "+r"(times)::"cc", "memory");
  return read_counter() - began;
}

/* Multiplications of doubles: 3 to 5 cycles each. Where another thread shares the core, it delays a
 * chain of additions by several per cent, for it competes for every port that can add, and this one
 * less often. So this is the clock, and additions tell once how long one multiplication is. */
static __attribute__((noinline)) uint64_t time_products(uint64_t times) {
  uint64_t began = read_counter();
  asm volatile("1:\n .rept 60\n mulsd %%xmm0, %%xmm0\n .endr\n dec %0\n jnz 1b"
               : "+r"(times)::"cc", "memory", "xmm0");
  return read_counter() - began;
}

static double ticks_per(uint64_t (*time_chain)(uint64_t), int length) {
  uint64_t longer = time_chain(LONG_CHAIN), shorter = time_chain(SHORT_CHAIN);
  return ((double)longer - (double)shorter) / (length * (LONG_CHAIN - SHORT_CHAIN));
}

/* What a second thread on the core takes first is the front end: this many no-operations then last
 * up to twice as long. Where they do not, the thread sleeps or waits for memory. */
static __attribute__((noinline)) uint64_t time_gauge(void) {
  uint64_t began = read_counter();
  asm volatile(".rept 2400\n nop\n .endr" ::: "memory");
  return read_counter() - began;
}

static double product_cycles;
static double quiet_gauge = INFINITY; /* the least mean of several gauges that was seen */
static uint64_t quantum;              /* ticks that the counter advances by at least */

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* ---------------------------------------------------------------- in the child */

static struct {
  volatile int mapping;
  int pages, physical;
  char *shared; /* PAGES pages behind every page that the block touches */
  volatile struct answer *answer;
} child;

static inline long call(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

static _Noreturn void end_child(uint32_t status, uint32_t detail) {
  child.answer->detail = detail;
  child.answer->pages = (uint32_t)child.pages;
  child.answer->status = status;
  for (;;) call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

/* Direct system calls and no library: the block may have left any state behind. */
static void on_fault(int signal_number, siginfo_t *info, void *context) {
  (void)signal_number;
  (void)context;
  asm volatile("pushfq; andl $~0x40000, (%%rsp); popfq; cld" ::: "memory", "cc");
  if (info->si_code != SEGV_MAPERR)
    end_child(info->si_code == SEGV_ACCERR ? PROTECTED : BAD_ADDRESS, 0);
  uintptr_t page = (uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1);
  if (!child.mapping) end_child(LATE_FAULT, 0);
  if (page < 0x10000) end_child(LOW_ADDRESS, 0);
  if (child.pages >= MAX_VIRTUAL_PAGES) end_child(TOO_MANY_PAGES, 0);
  /* First make sure that nothing is there, then put the shared page there. */
  long reserved = call(SYS_mmap, (long)page, PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (reserved != (long)page) end_child(BAD_ADDRESS, 0);
  char *physical = child.shared + (size_t)(child.pages % child.physical) * PAGE;
  long mapped = call(SYS_mremap, (long)physical, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                     (long)page, 0);
  if (mapped != (long)page) end_child(BAD_ADDRESS, (uint32_t)-mapped);
  child.pages++;
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOW_WORD(i) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[i]))
#define HIGH_WORD(i) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[i]) + 4)
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), yes, no)
#define DIE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define ONLY(value) IS(value, 1, 0), DIE

/* Numbers of the x32 interface carry a bit that none of the numbers here has: they die. */
static struct sock_filter mapping_filter[] = {
    LOAD(arch), ONLY(AUDIT_ARCH_X86_64),
    LOAD(nr),
    IS(SYS_exit_group, 0, 1), ALLOW,
    IS(SYS_rt_sigreturn, 0, 1), ALLOW,
    IS(SYS_seccomp, 0, 1), ALLOW, /* a further filter can only take away */
    IS(SYS_mmap, 0, 7),
    LOW_WORD(2), ONLY(PROT_NONE),
    LOW_WORD(3), ONLY(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE),
    ALLOW,
    ONLY(SYS_mremap),
    LOW_WORD(1), ONLY(0),
    HIGH_WORD(1), ONLY(0),
    LOW_WORD(3), ONLY(MREMAP_MAYMOVE | MREMAP_FIXED),
    ALLOW,
};

static struct sock_filter timing_filter[] = {
    LOAD(arch), ONLY(AUDIT_ARCH_X86_64),
    LOAD(nr),
    IS(SYS_exit_group, 0, 1), ALLOW,
    IS(SYS_rt_sigreturn, 0, 1), ALLOW,
    DIE,
};

/* SPEC_ALLOW: kernels before 5.16 otherwise switch speculative store bypass off under a filter,
 * and with it the store forwarding that is to be measured. */
static long install(struct sock_filter *filter, size_t length) {
  struct sock_fprog program = {.len = (unsigned short)length, .filter = filter};
  return call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
              (long)&program, 0, 0, 0);
}
#define INSTALL(filter) install(filter, sizeof(filter) / sizeof(filter[0]))

static void fill_memory(void) {
  int used = child.pages < child.physical ? child.pages : child.physical;
  void *at = child.shared;
  unsigned long words = (unsigned long)used * PAGE / 8;
  asm volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(INITIAL) : "memory");
}

static double interquartile_mean(const double *sorted, int n) {
  int from = n / 4, to = n - n / 4;
  double sum = 0;
  for (int i = from; i < to; i++) sum += sorted[i];
  return sum / (to - from);
}

/* The counter of core cycles that user code may read, where the machine has one. */
static int32_t open_counter(void) {
  struct perf_event_attr attr = {0};
  attr.type = PERF_TYPE_HARDWARE;
  attr.size = sizeof attr;
  attr.config = PERF_COUNT_HW_CPU_CYCLES;
  attr.exclude_kernel = 1;
  attr.exclude_hv = 1;
  attr.pinned = 1;
  long fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
  if (fd < 0) return -1;
  struct perf_event_mmap_page *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, (int)fd, 0);
  if (page == MAP_FAILED) return -1;
  return page->cap_user_rdpmc && page->index ? (int32_t)page->index - 1 : -1;
}

static void limit(int resource, rlim_t value) {
  struct rlimit both = {value, value};
  if (setrlimit(resource, &both) != 0) end_child(SETUP, (uint32_t)errno);
}

static int use_counter;

static _Noreturn void run_child(const struct request *request, pid_t parent) {
  static char fault_stack[64 * 1024] __attribute__((aligned(64)));
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) end_child(SETUP, (uint32_t)errno);
  if (getppid() != parent) _exit(1);
  if (use_counter) counter_index = open_counter();
  if (syscall(SYS_close_range, 0U, ~0U, 0U) != 0)
    for (int fd = 0, last = (int)sysconf(_SC_OPEN_MAX); fd < last; fd++) close(fd);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NOFILE, 0);
  limit(RLIMIT_NPROC, 0);
  limit(RLIMIT_MEMLOCK, 0);
  limit(RLIMIT_CPU, 2 + request->timeout_ms / 1000);
  limit(RLIMIT_AS, 256UL << 20);
  stack_t stack = {.ss_sp = fault_stack, .ss_size = sizeof fault_stack};
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigfillset(&action.sa_mask);
  if (sigaltstack(&stack, NULL) != 0 || sigaction(SIGSEGV, &action, NULL) != 0 ||
      mprotect((void *)BLOCK_BASE, MAX_UNROLLED + PAGE, PROT_READ | PROT_EXEC) != 0 ||
      mprotect((void *)STUB, PAGE, PROT_READ | PROT_EXEC) != 0 ||
      prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    end_child(SETUP, (uint32_t)errno);

  uint32_t *control = (uint32_t *)(CONTROL + 32);
  control[0] = (uint32_t)counter_index;
  control[2] = (request->vector == 16 ? 1 : request->vector == 32 ? 2 : request->vector ? 4 : 0) |
               (request->locked ? 8 : 0);
  uint32_t mxcsr = 0x9fc0; /* exceptions masked, denormals flushed: no microcode assists */
  asm volatile("ldmxcsr %0" ::"m"(mxcsr));

  long failed = INSTALL(mapping_filter);
  if (failed != 0) end_child(SETUP, (uint32_t)-failed);
  /* Nothing but direct system calls from here on. */

  uint64_t whole = BLOCK_BASE;
  child.mapping = 1;
  child.pages = 0;
  child.physical = (int)request->pages;
  /* A page that is mapped later finds what the blocks before it have written to its physical page.
   * So it is run until a whole run, from memory as at the start, touches nothing new. */
  for (int before = -1, runs = 0; child.pages != before && runs < 4; runs++) {
    before = child.pages;
    for (char *page = child.shared; page < child.shared + PAGES * PAGE; page += PAGE) {
      void *at = page;
      unsigned long words = PAGE / 8;
      asm volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(INITIAL) : "memory");
    }
    RUN(whole, MAX_REPEATS);
  }
  child.mapping = 0;
  failed = INSTALL(timing_filter);
  if (failed != 0) end_child(SETUP, (uint32_t)-failed);

  fill_memory();
  RUN(whole, 1);
  fill_memory();
  uint64_t once = RUN(whole, 1);
  uint64_t enough = 80 * quantum; /* twice what is left when the short run is taken from the long */
  uint64_t repeats = 1;
  uint32_t copies = request->copies;
  while (repeats < MAX_REPEATS && once * repeats < enough) repeats *= 2;
  /* Long enough to be past the window of any processor, and no longer than needed. */
  for (; once > 8 * enough && copies / 2 * request->instructions >= 1200 && copies >= 16; once /= 2)
    copies /= 2;
  uint64_t longer = whole + (uint64_t)(request->copies - copies) * request->length;
  uint64_t shorter = longer + (uint64_t)(copies - copies / 2) * request->length;

  static double differences[MAX_TRIED], quiet[MAX_TRIALS], clock[MAX_TRIED];
  uint64_t began = read_counter(), limit = (uint64_t)(1.1 * quiet_gauge);
  if (counter_index >= 0) limit = UINT64_MAX; /* the gauge is in time stamps, and this in cycles */
  int tried = 0, undisturbed = 0;
  for (int i = -2; undisturbed < (int)request->trials && tried < MAX_TRIED; i++) {
    int disturbed = time_gauge() > limit;
    fill_memory();
    double difference = (double)RUN(longer, repeats);
    disturbed |= time_gauge() > limit;
    fill_memory();
    difference -= (double)RUN(shorter, repeats);
    disturbed |= time_gauge() > limit;
    if (i < 0) continue; /* caches and branch predictors are still cold */
    differences[tried] = difference;
    clock[tried++] = ticks_per(time_products, PRODUCTS) / product_cycles;
    if (!disturbed) quiet[undisturbed++] = difference;
    if (tried >= (int)request->trials && read_counter() - began > BUDGET) break;
  }
  double *chosen = undisturbed < MIN_TRIALS ? differences : quiet;
  int n = undisturbed < MIN_TRIALS ? tried : undisturbed;
  qsort(chosen, (size_t)n, sizeof(double), compare);
  qsort(clock, (size_t)tried, sizeof(double), compare);
  double tick = interquartile_mean(clock, tried), middle = chosen[n / 2];
  double ticks = interquartile_mean(chosen, n);
  for (int i = 0; i < n; i++) chosen[i] = fabs(chosen[i] - middle);
  qsort(chosen, (size_t)n, sizeof(double), compare);
  child.answer->cycles = ticks / ((double)repeats * (copies - copies / 2)) / tick;
  child.answer->clock = tick;
  child.answer->spread = chosen[n / 2] / middle;
  child.answer->quiet = undisturbed < MIN_TRIALS ? 0 : (uint32_t)undisturbed;
  end_child(OK, 0);
}

/* ---------------------------------------------------------------- in the parent */

static void fail(const char *what) {
  fprintf(stderr, "harness: %s: %s\n", what, strerror(errno));
  exit(3);
}

static int read_fully(void *to, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t n = read(0, (char *)to + done, length - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    done += (size_t)n;
  }
  return 1;
}

static void write_fully(const void *from, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t n = write(1, (const char *)from + done, length - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) exit(0);
    done += (size_t)n;
  }
}

/* The child's status, or -1 when it had to be killed for taking too long. */
static int wait_for(pid_t pid, uint32_t timeout_ms) {
  struct timespec now, end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += timeout_ms / 1000;
  end.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
  sigset_t ended;
  sigemptyset(&ended);
  sigaddset(&ended, SIGCHLD);
  for (int status;;) {
    if (waitpid(pid, &status, WNOHANG) == pid) return status;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long left = (end.tv_sec - now.tv_sec) * 1000000000LL + (end.tv_nsec - now.tv_nsec);
    if (left <= 0) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      return -1;
    }
    struct timespec rest = {left / 1000000000, left % 1000000000};
    sigtimedwait(&ended, NULL, &rest);
  }
}

static int sensible(const struct answer *a) {
  return isfinite(a->cycles) && a->cycles > 0 && a->cycles < 1e7 && isfinite(a->spread) &&
         a->spread >= 0 && isfinite(a->clock) && a->clock > 0.01 && a->clock < 100 &&
         a->pages <= MAX_VIRTUAL_PAGES && a->quiet <= MAX_TRIALS;
}

/* How many additions one multiplication lasts, to the nearest whole number: from times so low that
 * no other thread has delayed them, and not the lowest of all, which are a counter's rounding. */
static double count_product_cycles(void) {
  enum { TIMES = 1000 };
  static double additions[TIMES], products[TIMES];
  for (int i = -10; i < TIMES; i++) {
    double a = ticks_per(time_additions, ADDITIONS), p = ticks_per(time_products, PRODUCTS);
    if (i >= 0) additions[i] = a, products[i] = p;
  }
  qsort(additions, TIMES, sizeof(double), compare);
  qsort(products, TIMES, sizeof(double), compare);
  return floor(products[TIMES / 20] / additions[TIMES / 20] + 0.5);
}

/* The least step of the counter. In a guest it can be 25 ticks of two or three billion a second. */
static uint64_t count_quantum(void) {
  uint64_t least = 1000;
  for (int i = 0; i < 2000; i++) {
    uint64_t before = read_counter(), after;
    do after = read_counter();
    while (after == before);
    if (after - before < least) least = after - before;
  }
  for (int i = 0; i < 20000; i++) {
    uint64_t a = read_counter(), b = read_counter(), c = read_counter();
    int64_t change = (int64_t)(c - b) - (int64_t)(b - a);
    uint64_t step = (uint64_t)(change < 0 ? -change : change);
    if (step > 0 && step < least) least = step;
  }
  return least;
}

/* Here, where no block has run: what a child says of its gauge may be a lie. */
static void update_quiet_gauge(void) {
  double sum = 0;
  for (int i = 0; i < 8; i++) sum += (double)time_gauge();
  if (sum / 8 < quiet_gauge) quiet_gauge = sum / 8;
}

static char *shared;

static struct answer time_block(const struct request *request, const uint8_t *code,
                                const uint16_t *fixups) {
  uint8_t *to = (uint8_t *)BLOCK_BASE;
  for (uint32_t copy = 0; copy < request->copies; copy++, to += request->length) {
    memcpy(to, code, request->length);
    for (uint32_t i = 0; i < request->fixups; i++) {
      int32_t displacement;
      memcpy(&displacement, to + fixups[i], 4);
      displacement -= (int32_t)(copy * request->length);
      memcpy(to + fixups[i], &displacement, 4);
    }
  }
  int32_t back = (int32_t)((long)STUB + (stub_done - stub_begin) - (long)(to + 5));
  *to = 0xe9;
  memcpy(to + 1, &back, 4);

  update_quiet_gauge();
  struct answer answer = {.status = NO_RESULT};
  volatile struct answer *box = (volatile struct answer *)shared;
  memset(shared, 0, PAGE);
  box->status = NO_RESULT;
  pid_t me = getpid(), pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) run_child(request, me);
  int status = wait_for(pid, request->timeout_ms);
  if (status == -1) {
    answer.status = TIMEOUT;
  } else if (WIFSIGNALED(status)) {
    answer.status = WTERMSIG(status) == SIGXCPU ? TIMEOUT : SIGNAL;
    answer.detail = (uint32_t)WTERMSIG(status);
  } else {
    memcpy(&answer, shared, sizeof answer);
    if (answer.status > SETUP || answer.pages > MAX_VIRTUAL_PAGES) answer.status = NO_RESULT;
    if (answer.status == OK && !sensible(&answer)) answer.status = UNSTABLE;
  }
  return answer;
}

static void *map_at(unsigned long address, size_t length) {
  void *at = mmap((void *)address, length, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (at != (void *)address) fail("a fixed address is taken");
  return at;
}

/* Does a filter kill? In a child that makes a harmless call which the filter does not name. */
static void require_seccomp(void) {
  pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || INSTALL(timing_filter) != 0) _exit(1);
    call(SYS_getppid, 0, 0, 0, 0, 0, 0);
    call(SYS_exit_group, 2, 0, 0, 0, 0, 0);
  }
  int status;
  if (waitpid(pid, &status, 0) != pid) fail("waitpid");
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS) {
    fprintf(stderr, "harness: this kernel does not filter system calls (seccomp)\n");
    exit(4);
  }
}

int main(int argc, char **argv) {
  use_counter = argc > 1 && strcmp(argv[1], "rdpmc") == 0;
  if (argc > 1 && strcmp(argv[1], "probe") == 0) {
    require_seccomp();
    puts(open_counter() >= 0 ? "rdpmc" : "rdtsc");
    return 0;
  }
  sigset_t ended;
  sigemptyset(&ended);
  sigaddset(&ended, SIGCHLD);
  sigprocmask(SIG_BLOCK, &ended, NULL);
  require_seccomp();

  quantum = count_quantum();
  product_cycles = count_product_cycles();
  for (int i = 0; i < 200; i++) update_quiet_gauge();

  int fd = (int)syscall(SYS_memfd_create, "block", 1U /* close on exec */);
  if (fd < 0 || ftruncate(fd, PAGE + PAGES * PAGE) != 0) fail("memfd_create");
  shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  child.shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
  if (shared == MAP_FAILED || child.shared == MAP_FAILED) fail("mmap");
  close(fd);
  child.answer = (volatile struct answer *)shared;
  map_at(CONTROL, PAGE);
  map_at(STUB, PAGE);
  map_at(BLOCK_BASE, MAX_UNROLLED + PAGE);
  memcpy((void *)STUB, stub_begin, (size_t)(stub_end - stub_begin));
  for (int i = 0; i < 16; i++) ((float *)(CONTROL + 64))[i] = 1.0f;

  struct request request;
  while (read_fully(&request, sizeof request)) {
    static uint8_t code[MAX_CODE];
    static uint16_t fixups[MAX_CODE];
    if (request.magic != MAGIC || request.length < 1 || request.length > MAX_CODE ||
        request.copies < 2 || request.copies * request.length > MAX_UNROLLED ||
        request.copies > 4096 || request.fixups > MAX_CODE || request.trials < MIN_TRIALS ||
        request.trials > MAX_TRIALS || request.pages < 1 || request.pages > PAGES || request.instructions < 1) {
      fprintf(stderr, "harness: not a request\n");
      return 5;
    }
    if (!read_fully(code, request.length) ||
        !read_fully(fixups, request.fixups * sizeof fixups[0]))
      return 5;
    for (uint32_t i = 0; i < request.fixups; i++)
      if (fixups[i] + 4u > request.length) return 5;
    struct answer answer = time_block(&request, code, fixups);
    write_fully(&answer, sizeof answer);
  }
  return 0;
}
