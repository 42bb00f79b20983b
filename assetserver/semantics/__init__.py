"""HTTP as values: parse fields, select a representation, evaluate preconditions, cut ranges, plan the response.

Pure by invariant 3: nothing here awaits, opens, sleeps or reads the clock; the architecture test holds it.
"""
