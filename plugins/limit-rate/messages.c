/* SPDX-License-Identifier: Apache-2.0 */
/* SENDs and SUBSCRIBEs: one compare-and-swap each, in buckets that the session has found once. */
#include "limit.h"

#include <chatd-sdk/json.h>

#include <errno.h>
#include <string.h>

size_t seat_size(const struct self *self)
{
	return sizeof(struct seat) + self->n_lanes * sizeof(struct bucket *);
}

static void leave_lanes(struct seat *seat)
{
	const struct self *self = seat->self;
	for (uint32_t i = 0; i < self->n_lanes; i++) {
		self->backend->release(seat->lane[i]);
		seat->lane[i] = NULL;
	}
	self->h->ident_unref(seat->who);
	seat->who = NULL;
}

void seat_drop(void *slot)
{
	struct seat *seat = slot;
	if (seat->self) {
		leave_lanes(seat);
		seat->self->backend->release(seat->of_address);
		seat->self->backend->release(seat->of_user);
	}
}

/* At the session's first frame, and after its identity has changed. */
static void sit_down(const struct self *self, struct seat *seat, const chatd_ident *who)
{
	const struct chatd_host *h = self->h;
	uint32_t flags = h->ident_flags(who);
	seat->self = self;
	leave_lanes(seat);
	seat->who = h->ident_ref(who);
	seat->anonymous = (flags & CHATD_ID_ANONYMOUS) != 0;
	seat->exempt = (chatd_role_mask(&self->roles, flags, h->ident_roles(who)) & self->exempt) != 0;
}

static struct seat *seat_of(const struct self *self, chatd_call *call)
{
	const struct chatd_host *h = self->h;
	chatd_session *s = h->call_session(call);
	const chatd_ident *who = h->call_ident(call);
	if (!s || !who) {
		return NULL;
	}
	struct seat *seat = h->slot(s, self->slot);
	if (seat->who != who) {
		sit_down(self, seat, who);
	}
	return seat;
}

static const struct limit *limit_of(const struct self *self, const struct seat *seat, uint32_t lane)
{
	if (lane >= LANE_SEPARATE) {
		return &self->separate[lane - LANE_SEPARATE];
	}
	if (lane == LANE_SUBSCRIBE) {
		return &self->subscribe;
	}
	return seat->anonymous ? &self->anonymous : &self->authenticated;
}

static struct chatd_str lane_key(
		const struct self *self, const struct seat *seat, uint32_t lane, char room[KEY_MAX])
{
	char what[16] = "";
	if (lane != LANE_MAIN) {
		snprintf(what, sizeof(what), "%u:", lane);
	}
	return limit_key_of(self, what, seat->who, room);
}

static struct bucket *bucket_of(
		const struct self *self, struct seat *seat, uint32_t lane, nanos now)
{
	char room[KEY_MAX];
	if (!seat->lane[lane]) {
		struct chatd_str key = lane_key(self, seat, lane, room);
		seat->lane[lane] = self->backend->hold(self->store, key, now);
	}
	return seat->lane[lane];
}

/* ---- warn, throttle, close -------------------------------------------------------------- */

static void warn(const struct self *self, chatd_call *call, const struct limit *l)
{
	const struct chatd_host *h = self->h;
	char room[512], text[160];
	struct chatd_json j;
	int n = snprintf(text, sizeof(text),
			"%lld %% of the %s allowed at once are used; %lld a minute can go on",
			(long long)self->conf->warn_at, l->what, (long long)l->per_minute);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "errorCode", CHATD_LIT("RATE_LIMIT_WARNING"));
	chatd_json_member(&j, "code", CHATD_LIT("RATE_LIMIT_WARNING"));
	chatd_json_member(&j, "message", chatd_str_of(text, (size_t)n));
	chatd_json_time(&j, "timestamp", h->wall_ms());
	chatd_json_lit(&j, "}");
	chatd_msg *m =
			j.failed ? NULL : h->msg_new(CHATD_LIT("/user/queue/errors"), chatd_json_str(&j));
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) == 0) {
		(void)h->session_send(h->call_session(call), m); /* who listens to none needs none */
	}
	h->msg_unref(m);
	chatd_json_free(&j);
}

static void note_used(const struct self *self, chatd_call *call, struct seat *seat,
		const struct limit *l, nanos now)
{
	nanos window = self->conf->window_ms * 1000000;
	if (seat->warned_at == 0 || now - seat->warned_at >= window) {
		seat->warned_at = now;
		warn(self, call, l);
	}
}

static void note_refused(const struct self *self, chatd_call *call, struct seat *seat, nanos now)
{
	nanos window = self->conf->window_ms * 1000000;
	if (now - seat->window_at >= window) {
		seat->window_at = now;
		seat->refused = 0;
	}
	if (++seat->refused == self->conf->close_after) {
		self->h->session_close(
				self->h->call_session(call), 4429, "the rate limit was disregarded for too long");
	}
}

void messages_drawn(
		const struct self *self, chatd_call *call, const struct limit *l, const struct outcome *o)
{
	struct seat *seat = seat_of(self, call);
	nanos now = limit_now(self, self->h->call_worker(call));
	if (seat && o->rc == -EDQUOT) {
		note_refused(self, call, seat, now);
	} else if (seat && o->rc == 0 && l->warn && o->drawn.used >= l->warn) {
		note_used(self, call, seat, l, now);
	}
}

static chatd_verdict charge(const struct self *self, chatd_call *call, uint32_t lane, int64_t cost)
{
	struct seat *seat = seat_of(self, call);
	if (!seat || seat->exempt) {
		return CHATD_NEXT;
	}
	const struct limit *l = limit_of(self, seat, lane);
	if (!l->rate.token) {
		return CHATD_NEXT;
	}
	char room[KEY_MAX];
	nanos now = limit_now(self, self->h->call_worker(call));
	struct draw draw = { .limit = l, .rate = l->rate, .cost = cost };
	draw.bucket = bucket_of(self, seat, lane, now);
	if (!draw.bucket) {
		return -ENOMEM;
	}
	if (self->redis) {
		draw.key = lane_key(self, seat, lane, room);
		draw.shown = draw.key.n;
	}
	return shared_charge(self, call, &(struct draws){ &draw, 1 });
}

/* ---- hooks ------------------------------------------------------------------------------- */

chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	struct chatd_str dest = self->h->msg_dest(self->h->call_msg(call));
	(void)wself;
	for (size_t i = 0; i < self->n_charges; i++) {
		const struct charge *c = &self->charge[i];
		if (dest.n >= c->n && memcmp(dest.p, c->prefix, c->n) == 0) {
			return c->cost ? charge(self, call, c->lane, c->cost) : CHATD_NEXT;
		}
	}
	return charge(self, call, LANE_MAIN, 1);
}

chatd_verdict on_subscribe(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	(void)wself;
	/* After a change of roles they are asked about again: nobody has sent anything. */
	return self->h->call_again(call) ? CHATD_NEXT : charge(self, call, LANE_SUBSCRIBE, 1);
}
