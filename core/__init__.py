"""The ground every room stands on: settings, errors, the lake, the ops database, keys, audit, alerts."""
