/* SPDX-License-Identifier: Apache-2.0 */
#include "host/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEGMENTS_MAX = 64 };

/* The linker of the build puts it at the program's own header: what it was built for, we take. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static const char *machine_name(unsigned machine)
{
	static const struct {
		unsigned machine;
		const char *name;
	} known[] = { { EM_386, "i386" }, { EM_X86_64, "x86-64" }, { EM_ARM, "arm" },
		{ EM_AARCH64, "aarch64" }, { EM_RISCV, "riscv" }, { EM_PPC64, "ppc64" },
		{ EM_S390, "s390x" }, { EM_MIPS, "mips" } };
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].machine == machine) {
			return known[i].name;
		}
	}
	return "an unknown processor";
}

static int refuse_machine(const unsigned char *head, char *why, size_t room)
{
	uint16_t machine;
	memcpy(&machine, head + offsetof(ElfW(Ehdr), e_machine), sizeof(machine));
	snprintf(why, room,
			"it was built for %s, this server runs on %s; install the package for this processor",
			machine_name(machine), machine_name(__ehdr_start.e_machine));
	return -1;
}

static int read_at(int fd, void *to, size_t n, uint64_t at)
{
	return pread(fd, to, n, (off_t)at) == (ssize_t)n ? 0 : -1;
}

static int refuse_cut(uint64_t size, uint64_t needs, char *why, size_t room)
{
	snprintf(why, room,
			"the file ends after %llu bytes of at least %llu: it was not copied to its end; install it "
			"again",
			(unsigned long long)size, (unsigned long long)needs);
	return -1;
}

/* Each segment that is mapped must be in the file. */
static int check_segments(int fd, const ElfW(Ehdr) * h, uint64_t size, char *why, size_t room)
{
	ElfW(Phdr) p[SEGMENTS_MAX];
	size_t n = h->e_phnum;
	if (n > SEGMENTS_MAX || h->e_phentsize != sizeof(p[0]) || h->e_phoff > size) {
		snprintf(why, room, "its ELF header is damaged; install it again");
		return -1;
	}
	if (read_at(fd, p, n * sizeof(p[0]), h->e_phoff) < 0) {
		return refuse_cut(size, h->e_phoff + n * sizeof(p[0]), why, room);
	}
	for (size_t i = 0; i < n; i++) {
		if (p[i].p_offset > size || p[i].p_filesz > size - p[i].p_offset) {
			return refuse_cut(size, (uint64_t)p[i].p_offset + p[i].p_filesz, why, room);
		}
	}
	return 0;
}

static int check_open(int fd, char *why, size_t room)
{
	struct stat st;
	ElfW(Ehdr) h;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		snprintf(why, room, "it is no regular file");
		return -1;
	}
	if (st.st_size == 0) {
		snprintf(why, room, "the file is empty; install it again");
		return -1;
	}
	unsigned char ident[EI_NIDENT + 4] = { 0 };
	(void)read_at(fd, ident, sizeof(ident), 0);
	if (memcmp(ident, ELFMAG, SELFMAG) != 0) {
		snprintf(why, room, "it is no shared object (ELF file)");
		return -1;
	}
	if (ident[EI_CLASS] != __ehdr_start.e_ident[EI_CLASS] ||
			ident[EI_DATA] != __ehdr_start.e_ident[EI_DATA] ||
			memcmp(ident + offsetof(ElfW(Ehdr), e_machine), &__ehdr_start.e_machine, 2) != 0) {
		return refuse_machine(ident, why, room);
	}
	uint64_t size = (uint64_t)st.st_size;
	if (read_at(fd, &h, sizeof(h), 0) < 0) {
		return refuse_cut(size, sizeof(h), why, room);
	}
	if (h.e_type != ET_DYN) {
		snprintf(why, room, "it is no shared object: link it with -shared");
		return -1;
	}
	return check_segments(fd, &h, size, why, room);
}

int elf_check(const char *path, char *why, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		snprintf(why, room, "it cannot be read: %s", strerror(errno));
		return -1;
	}
	int rc = check_open(fd, why, room);
	close(fd);
	return rc;
}
