"""What belongs to the process as a whole: logs, spans, standard streams, open files, the service manager, its end."""
