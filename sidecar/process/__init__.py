"""What belongs to the process as a whole: its log, audit log, spans, standard streams and service manager."""
