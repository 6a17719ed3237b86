/* SPDX-License-Identifier: Apache-2.0 */
/* What a plugin file gives to the dynamic linker and what it wants from it. */
#include "tool.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIBRARIES_MAX = 64, NAMED_MAX = 20 };

struct image {
	const char *p;
	size_t n;
	const ElfW(Ehdr) * head;
	const ElfW(Shdr) * sections;
	const ElfW(Sym) * syms;
	size_t n_syms;
	const char *strings;
	size_t strings_n;
	void *lib[LIBRARIES_MAX]; /* what it says that it needs */
	size_t n_libs;
};

static int inside(const struct image *im, uint64_t at, uint64_t n)
{
	return at <= im->n && n <= im->n - at;
}

static int map_file(struct image *im, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return -1;
	}
	void *p = fstat(fd, &st) == 0 && st.st_size >= (off_t)sizeof(ElfW(Ehdr))
			? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
			: MAP_FAILED;
	close(fd);
	if (p == MAP_FAILED) {
		return -1;
	}
	im->p = p;
	im->n = (size_t)st.st_size;
	im->head = p;
	return 0;
}

static int find_sections(struct image *im)
{
	const ElfW(Ehdr) *h = im->head;
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_shentsize != sizeof(ElfW(Shdr)) ||
			!inside(im, h->e_shoff, (uint64_t)h->e_shnum * sizeof(ElfW(Shdr)))) {
		return -1;
	}
	im->sections = (const void *)(im->p + h->e_shoff);
	for (unsigned i = 0; i < h->e_shnum; i++) {
		const ElfW(Shdr) *s = &im->sections[i];
		if (s->sh_type != SHT_DYNSYM || s->sh_link >= h->e_shnum) {
			continue;
		}
		const ElfW(Shdr) *str = &im->sections[s->sh_link];
		if (!inside(im, s->sh_offset, s->sh_size) || !inside(im, str->sh_offset, str->sh_size) ||
				!str->sh_size || im->p[str->sh_offset + str->sh_size - 1] != '\0') {
			return -1;
		}
		im->syms = (const void *)(im->p + s->sh_offset);
		im->n_syms = s->sh_size / sizeof(ElfW(Sym));
		im->strings = im->p + str->sh_offset;
		im->strings_n = str->sh_size;
		return 0;
	}
	return -1;
}

static const char *name_of(const struct image *im, uint64_t at)
{
	return at < im->strings_n ? im->strings + at : "";
}

/* ---- libraries --------------------------------------------------------------- */

static void open_libraries(struct check *c, struct image *im)
{
	for (unsigned i = 0; i < im->head->e_shnum; i++) {
		const ElfW(Shdr) *s = &im->sections[i];
		if (s->sh_type != SHT_DYNAMIC || !inside(im, s->sh_offset, s->sh_size)) {
			continue;
		}
		const ElfW(Dyn) *d = (const void *)(im->p + s->sh_offset);
		for (size_t k = 0; k < s->sh_size / sizeof(*d) && d[k].d_tag != DT_NULL; k++) {
			const char *name = name_of(im, d[k].d_un.d_val);
			if (d[k].d_tag != DT_NEEDED || im->n_libs == LIBRARIES_MAX) {
				continue;
			}
			doing(c, "loading %s, which it is linked to", name);
			void *lib = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
			if (lib) {
				im->lib[im->n_libs++] = lib;
			} else {
				find(c, FINDING_ERROR, "it is linked to %s, which cannot be loaded: %s", name,
						dlerror());
			}
		}
	}
}

static int somebody_has(const struct image *im, const char *name)
{
	for (size_t i = 0; i < im->n_libs; i++) {
		if (dlsym(im->lib[i], name)) {
			return 1;
		}
	}
	return 0;
}

/* ---- the two lists -------------------------------------------------------------- */

static void check_wanted(struct check *c, const struct image *im)
{
	size_t missing = 0;
	for (size_t i = 1; i < im->n_syms; i++) {
		const ElfW(Sym) *s = &im->syms[i];
		const char *name = name_of(im, s->st_name);
		if (s->st_shndx != SHN_UNDEF || ELF64_ST_BIND(s->st_info) != STB_GLOBAL || !*name ||
				somebody_has(im, name)) {
			continue;
		}
		if (strncmp(name, "__asan_", 7) == 0 || strncmp(name, "__ubsan_", 8) == 0 ||
				strncmp(name, "__tsan_", 7) == 0) {
			find(c, FINDING_ERROR,
					"it was built with a sanitizer (%s): build it without, or check it in a server "
					"that has the same",
					name);
			return;
		}
		if (missing++ < NAMED_MAX) {
			find(c, FINDING_ERROR,
					"it uses %s, which no library has that it is linked to: link that library, and "
					"use -Wl,-z,defs, so that the linker finds this; of the server it has nothing but "
					"the table",
					name);
		}
	}
}

static int linkers_own(const char *name)
{
	static const char *const names[] = { "_init", "_fini", "__bss_start", "_edata", "_end" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], name) == 0) {
			return 1;
		}
	}
	return 0;
}

static void check_given(struct check *c, const struct image *im)
{
	size_t more = 0;
	int there = 0;
	for (size_t i = 1; i < im->n_syms; i++) {
		const ElfW(Sym) *s = &im->syms[i];
		const char *name = name_of(im, s->st_name);
		if (s->st_shndx == SHN_UNDEF || ELF64_ST_BIND(s->st_info) == STB_LOCAL || !*name) {
			continue;
		}
		if (strcmp(name, TOOL_SYMBOL) == 0) {
			there = 1;
		} else if (!linkers_own(name) && more++ < NAMED_MAX) {
			find(c, FINDING_ERROR,
					"it exports %s: a plugin exports " TOOL_SYMBOL
					" alone; make it static, build with -fvisibility=hidden, or link with "
					"-Wl,--version-script=$(pkg-config --variable=exports chatd-plugin)",
					name);
		}
	}
	if (!there) {
		find(c, FINDING_ERROR, "it does not export " TOOL_SYMBOL ": write CHATD_PLUGIN = { ... }");
	}
}

static void check_stack(struct check *c, const struct image *im)
{
	const ElfW(Ehdr) *h = im->head;
	if (!inside(im, h->e_phoff, (uint64_t)h->e_phnum * sizeof(ElfW(Phdr)))) {
		return;
	}
	const ElfW(Phdr) *p = (const void *)(im->p + h->e_phoff);
	for (unsigned i = 0; i < h->e_phnum; i++) {
		if (p[i].p_type == PT_GNU_STACK && (p[i].p_flags & PF_X)) {
			find(c, FINDING_ERROR,
					"it asks for an executable stack, which the whole server would get; link with "
					"-Wl,-z,noexecstack");
		}
	}
}

void stage_symbols(struct check *c)
{
	struct image im = { 0 };
	doing(c, "reading the file");
	if (map_file(&im, c->path) < 0 || find_sections(&im) < 0) {
		find(c, FINDING_ERROR, "it is no shared object that could be read");
		return;
	}
	open_libraries(c, &im);
	check_given(c, &im);
	check_wanted(c, &im);
	check_stack(c, &im);
}
