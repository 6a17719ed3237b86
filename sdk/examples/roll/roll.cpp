// SPDX-License-Identifier: Apache-2.0
// Dice, in C++17: SEND "2d6" to /app/roll, and all who listen to /topic/dice see what came.
//
// The contract is C: no exception may leave a callback, and what the server gives is borrowed.
#include <chatd/plugin.h>

#include <cerrno>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>

namespace
{

struct self {
	const chatd_host *h;
};

struct dice {
	long count = 0, sides = 0;
};

// "2d6"; sides 0: it is something else.
dice parse(std::string_view text)
{
	dice d;
	std::string copy(text);
	char *end = nullptr;
	d.count = std::strtol(copy.c_str(), &end, 10);
	if (*end != 'd' || d.count < 1 || d.count > 20) {
		return {};
	}
	d.sides = std::strtol(end + 1, &end, 10);
	return *end == '\0' && d.sides >= 2 && d.sides <= 100 ? d : dice{};
}

std::string roll(const chatd_host *h, const dice &d)
{
	std::string text;
	long sum = 0;
	for (long i = 0; i < d.count; i++) {
		uint32_t number = 0;
		h->random(&number, sizeof(number));
		long eyes = 1 + static_cast<long>(number % static_cast<uint32_t>(d.sides));
		sum += eyes;
		text += (i ? " + " : "") + std::to_string(eyes);
	}
	return text + " = " + std::to_string(sum);
}

chatd_verdict answer(const chatd_host *h, chatd_call *call)
{
	chatd_str body = h->msg_body(h->call_msg(call));
	dice d = parse({ body.p ? body.p : "", body.n });
	if (!d.sides) {
		return h->reject(call, "VALIDATION", "write for example 2d6: two dice of six sides");
	}
	chatd_str who = h->ident_name(h->call_ident(call));
	std::string text = std::string(who.p ? who.p : "", who.n) + ": " + roll(h, d);
	chatd_msg *m = h->msg_new(CHATD_LIT("/topic/dice"), chatd_str_of(text.data(), text.size()));
	if (!m) {
		return -ENOMEM;
	}
	chatd_status rc = h->publish(h->call_worker(call), m);
	h->msg_unref(m);
	return rc < 0 ? rc : CHATD_ACCEPT;
}

// What C calls: nothing is thrown out of here.
chatd_verdict on_roll(chatd_call *call, void *selfp, void *) noexcept
{
	try {
		return answer(static_cast<const self *>(selfp)->h, call);
	} catch (const std::bad_alloc &) {
		return -ENOMEM;
	} catch (...) {
		return -EIO;
	}
}

chatd_status init(const chatd_host *h, chatd_ctx *ctx, const void *, void **ret_self) noexcept
{
	self *s = new (std::nothrow) self{ h };
	if (!s) {
		return -ENOMEM;
	}
	*ret_self = s;
	return h->app(ctx, "roll", on_roll);
}

void fini(void *selfp) noexcept
{
	delete static_cast<self *>(selfp);
}

// C++17 has no designated initialisers, and the constant must be one at compile time.
constexpr chatd_plugin describe()
{
	chatd_plugin p{};
	p.struct_size = sizeof(p);
	p.abi_minor = CHATD_ABI_MINOR;
	p.opt_size = sizeof(chatd_opt);
	p.name = "roll";
	p.version = "0.1";
	p.summary = "dice";
	p.flags = CHATD_PLUGIN_ONCE; // there is one /app/roll
	p.init = init;
	p.fini = fini;
	return p;
}

} // namespace

CHATD_PLUGIN = describe();
