"""Addresses and numbers as arithmetic: no database, no clock, and chance only where it is handed in.

`intervals` is sets of numbers as ranges, `addresses` the forms of an address, `pools` what a subnet gives out, `draw`
how a free number is chosen so that many choosers seldom meet. Who is refused a number, and by what error, is the
caller's business.
"""
