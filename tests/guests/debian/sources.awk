# Turns apt's deb822 sources into one line for each URI and suite.

function flush_stanza(   i, j, uris, suites, options) {
    if (types ~ /(^| )deb( |$)/ && enabled != "no") {
        options = signed ~ /^\// ? "[signed-by=" signed "] " : ""
        for (i = split(field["uris"], uris, " "); i > 0; i--)
            for (j = 1; j <= split(field["suites"], suites, " "); j++)
                print "deb " options uris[i] " " suites[j] " " field["components"]
    }
    delete field
    types = enabled = signed = name = ""
}

/^#/ { next }
/^[ \t]*$/ { flush_stanza(); next }
/^[^ \t]/ {
    name = tolower(substr($0, 1, index($0, ":") - 1))
    value = substr($0, index($0, ":") + 1)
    gsub(/^[ \t]+|[ \t]+$/, "", value)
    field[name] = value
    if (name == "types") types = value
    if (name == "enabled") enabled = tolower(value)
    if (name == "signed-by") signed = value
    next
}
{ gsub(/^[ \t]+|[ \t]+$/, ""); field[name] = field[name] " " $0 }
END { flush_stanza() }
