/* SPDX-License-Identifier: Apache-2.0 */
int chatd_test_gone(void);

int chatd_test_gone(void)
{
	return 7;
}
