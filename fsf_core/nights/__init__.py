"""Series of runs: the runs of one job on many dates, in folders that a template with `{date}` names.

    template    what `{date}` becomes, and which date a folder has: text only
    series      the runs below a template: listed by date, locked as a whole, and the pointer to the newest finished one
    states      what the folders of a series hold, and which series a folder holds
    retention   which runs of a series may go: rules only
    prune       removes them
    pins        keep a run whatever its age
    overview    lists the nights for people

Knows run folders by name and by `runs`; knows no items, no model and no Ray.
"""
