"""The vocabulary of plans: what was observed, what shall be done, what shall be said about it.

Every decision of the product is a pure function `plan(view) -> Plan` over the words of this room, so that it can be
tested without a cluster and printed before anything is done. The room stands below all planners and below the code that
fulfils plans, and knows neither.
"""
