/* SPDX-License-Identifier: Apache-2.0 */
/* How many uploads are under way.  Each has two buffers, so this is the bound on their memory. */
#include "upload.h"

chatd_status slots_init(struct slots *s, int64_t most)
{
	s->slot = calloc((size_t)most, sizeof(*s->slot));
	return pthread_mutex_init(&s->lock, NULL) == 0 && s->slot ? 0 : -ENOMEM;
}

void slots_finish(struct slots *s)
{
	free(s->slot);
	pthread_mutex_destroy(&s->lock);
}

/* The user's, or a free one; there is one as long as the total allows. */
static struct slot *find(struct slots *s, struct chatd_str user, int64_t most)
{
	struct slot *empty = NULL;
	for (int64_t i = 0; i < most; i++) {
		if (s->slot[i].n && chatd_str_same(text(s->slot[i].user), user)) {
			return &s->slot[i];
		}
		if (!s->slot[i].n && !empty) {
			empty = &s->slot[i];
		}
	}
	return empty;
}

chatd_status slots_take(struct self *self, struct chatd_str user)
{
	struct slots *s = &self->slots;
	chatd_status rc = 0;
	pthread_mutex_lock(&s->lock);
	struct slot *mine = find(s, user, self->conf->uploads);
	if (s->total >= self->conf->uploads || !mine) {
		rc = -EBUSY;
	} else if (mine->n >= self->conf->uploads_per_user) {
		rc = -EDQUOT;
	} else {
		if (mine->n++ == 0) {
			chatd_str_copy(mine->user, sizeof(mine->user), user);
		}
		s->total++;
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void slots_give(struct self *self, struct chatd_str user)
{
	struct slots *s = &self->slots;
	pthread_mutex_lock(&s->lock);
	struct slot *mine = find(s, user, self->conf->uploads);
	if (mine && mine->n) {
		mine->n--;
		s->total--;
	}
	pthread_mutex_unlock(&s->lock);
}
