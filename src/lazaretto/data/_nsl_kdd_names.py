"""NSL-KDD's vocabulary: columns, attacks and their families, services and the sites that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = [
    "COLUMNS",
    "FAMILIES",
    "FAMILY_OF",
    "HISTORY",
    "OWN_NUMBERS",
    "PROTOCOLS",
    "SITES",
    "SITE_OF",
    "STATES",
]

# What the connection tells of itself: Stolfo et al. 2000, DOI 10.1109/DISCEX.2000.821515, tables 1 and 2.
OWN_NUMBERS = (
    *("duration", "src_bytes", "dst_bytes", "land", "wrong_fragment", "urgent", "hot", "num_failed_logins"),
    *("logged_in", "num_compromised", "root_shell", "su_attempted", "num_root", "num_file_creations"),
    *("num_shells", "num_access_files", "num_outbound_cmds", "is_host_login", "is_guest_login"),
)
# What it tells of the connections before it: the last two seconds, and the last hundred to the same host.
HISTORY = (
    *("count", "srv_count", "serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate"),
    *("same_srv_rate", "diff_srv_rate", "srv_diff_host_rate", "dst_host_count", "dst_host_srv_count"),
    *("dst_host_same_srv_rate", "dst_host_diff_srv_rate", "dst_host_same_src_port_rate"),
    *("dst_host_srv_diff_host_rate", "dst_host_serror_rate", "dst_host_srv_serror_rate"),
    *("dst_host_rerror_rate", "dst_host_srv_rerror_rate"),
)
COLUMNS = (
    *("duration", "protocol_type", "service", "flag"),
    *OWN_NUMBERS[1:],
    *HISTORY,
    *("attack", "difficulty"),
)

# Attacks by family as in the KDD Cup 1999 task and in Tavallaee et al. 2009 (DOI 10.1109/CISDA.2009.5356528);
# the names after the semicolon are those that only the test file has.
FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "dos": "back land neptune pod smurf teardrop; apache2 mailbomb processtable udpstorm worm",
        "probe": "ipsweep nmap portsweep satan; mscan saint",
        "r2l": "ftp_write guess_passwd imap multihop phf spy warezclient warezmaster; named sendmail"
        " snmpgetattack"
        " snmpguess xlock xsnoop httptunnel",
        "u2r": "buffer_overflow loadmodule perl rootkit; ps sqlattack xterm",
    }
)
FAMILY_OF: Mapping[str, int] = MappingProxyType(
    {"normal": 0}
    | {
        attack: place
        for place, names in enumerate(FAMILIES.values(), start=1)
        for attack in names.replace(";", " ").split()
    }
)

PROTOCOLS: Mapping[str, str] = MappingProxyType({name: name for name in ("tcp", "udp", "icmp")})
STATES: Mapping[str, str] = MappingProxyType(
    {
        "sf": "completed",
        "s0": "unanswered",
        "rej": "rejected",
        **dict.fromkeys(("rsto", "rstr", "rstos0"), "reset"),
        **dict.fromkeys(("s1", "s2", "s3", "sh", "oth"), "unfinished"),
    }
)

# Services that a department of its own would run. What is in none of these (the scanners' hunting ground,
# nearly all attacks) goes with "private" and "other", where there is normal traffic too.
SITES: Mapping[str, str] = MappingProxyType(
    {
        "web": "http http_443 http_8001 http_2784 aol gopher",
        "mail": "smtp pop_2 pop_3 imap4 auth",
        "files": "ftp ftp_data tftp_u uucp uucp_path",
        "logins": "telnet login klogin kshell shell ssh exec rje remote_job x11 irc finger",
        "names and time": "domain domain_u name hostnames ntp_u time daytime ldap whois",
        "control messages": "eco_i ecr_i red_i tim_i urh_i urp_i",
        "other": "private other bgp courier csnet_ns ctf discard echo efs harvest iso_tsap link mtp"
        " netbios_dgm netbios_ns netbios_ssn netstat nnsp nntp pm_dump printer sql_net sunrpc supdup systat"
        " vmnet z39_50 icmp",
    }
)
SITE_OF: Mapping[str, int] = MappingProxyType(
    {service: place for place, names in enumerate(SITES.values()) for service in names.split()}
)
