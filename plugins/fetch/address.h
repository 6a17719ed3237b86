/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file address.h
 * @brief Which addresses are the public internet's.  Pure.
 */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <stdint.h>
#include <sys/socket.h>

/** 1: whoever is asked there is asked by everybody.  0: this machine, its networks, or an address
 *  that stands for another one. */
int address_is_public(const struct sockaddr *);
int address_public4(const uint8_t a[4]);
int address_public6(const uint8_t a[16]);

#endif
