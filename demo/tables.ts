/**
 * The tables of the demo: real data of the npm package vega-datasets, with keys and proper types, and what the writer may
 * do to each. Everything here is SQL as text, so that loader, writer and comparison share names and nothing else.
 */
export interface DemoTable {
  readonly name: string
  /** Columns of CREATE TABLE, without the key. */
  readonly columns: readonly (readonly [name: string, type: string])[]
  readonly key: readonly string[]
  /** DuckDB: the rows, in the order of `columns`; `$data` is the folder of the data set. */
  readonly select: string
  /** PostgreSQL, once the rows are there. */
  readonly afterLoad?: readonly string[]
  /** How much of the writer's work goes to this table, relative to the others. */
  readonly weight: number
  /** PostgreSQL: SET lists of updates that leave the key alone; one is taken at random. */
  readonly updates: readonly string[]
  /** PostgreSQL: a new value of the first key column from the old row `t` and a number `n` that is never used twice. */
  readonly newKey: string
}

const json = (file: string): string => `read_json('$data/${file}', maximum_object_size = 50000000)`
const csv = (file: string, options = ''): string => `read_csv('$data/${file}', header = true${options})`

const flights: DemoTable = {
  name: 'flights',
  columns: [
    ['id', 'bigint'],
    ['departure', 'timestamp'],
    ['delay', 'integer'],
    ['distance', 'smallint'],
    ['origin', 'text'],
    ['destination', 'text'],
  ],
  key: ['id'],
  select: `SELECT row_number() OVER (), date, delay, distance, origin, destination FROM '$data/flights-3m.parquet'`,
  weight: 50,
  updates: [
    'delay = delay + 1',
    'delay = NULL',
    'delay = coalesce(delay, 0) - 5',
    'origin = destination, destination = origin',
    `departure = departure + interval '1 microsecond'`,
  ],
  newKey: '3000000 + n',
}

const birdstrikes: DemoTable = {
  name: 'birdstrikes',
  columns: [
    ['id', 'integer'],
    ['airport', 'text'],
    ['aircraft', 'text'],
    ['damage', 'text'],
    ['flight_date', 'date'],
    ['operator', 'text'],
    ['origin_state', 'text'],
    ['phase', 'varchar(30)'],
    ['wildlife_size', 'text'],
    ['species', 'text'],
    ['time_of_day', 'text'],
    ['cost_other', 'numeric(12,2)'],
    ['cost_repair', 'numeric(12,2)'],
    ['cost_total', 'numeric(12,2)'],
    ['speed_knots', 'smallint'],
  ],
  key: ['id'],
  select: `SELECT row_number() OVER (), * FROM ${csv('birdstrikes.csv')}`,
  weight: 8,
  updates: [
    'cost_repair = cost_repair + 0.01, cost_total = cost_total + 0.01',
    'speed_knots = NULL',
    'speed_knots = 120',
    'flight_date = flight_date + 1',
    'cost_other = -cost_other',
  ],
  newKey: '10000 + n',
}

const earthquakes: DemoTable = {
  name: 'earthquakes',
  columns: [
    ['id', 'text'],
    ['magnitude', 'double precision'],
    ['place', 'text'],
    ['happened_at', 'timestamptz'],
    ['updated_at', 'timestamptz'],
    ['felt', 'integer'],
    ['alert', 'text'],
    ['tsunami', 'boolean'],
    ['coordinates', 'double precision[]'],
    ['properties', 'jsonb'],
  ],
  key: ['id'],
  select: `SELECT f.id, f.properties.mag, f.properties.place,
      strftime(make_timestamp(f.properties.time * 1000), '%Y-%m-%d %H:%M:%S.%f+00'),
      strftime(make_timestamp(f.properties.updated * 1000), '%Y-%m-%d %H:%M:%S.%f+00'),
      f.properties.felt, f.properties.alert, f.properties.tsunami = 1,
      '{' || array_to_string(f.geometry.coordinates, ',') || '}', to_json(f.properties)
    FROM (SELECT unnest(features) AS f FROM ${json('earthquakes.json')})`,
  weight: 6,
  updates: [
    'magnitude = magnitude * 1.1',
    'magnitude = NULL',
    'felt = coalesce(felt, 0) + 1',
    'tsunami = NOT tsunami',
    `properties = properties || jsonb_build_object('checked', clock_timestamp())`,
    'coordinates = array_reverse_3(coordinates)',
    `updated_at = updated_at + interval '1 second'`,
  ],
  newKey: `t.id || '-' || n`,
}

const movies: DemoTable = {
  name: 'movies',
  columns: [
    ['id', 'integer'],
    ['title', 'text'],
    ['us_gross', 'bigint'],
    ['worldwide_gross', 'bigint'],
    ['us_dvd_sales', 'bigint'],
    ['production_budget', 'bigint'],
    ['release_date', 'date'],
    ['mpaa_rating', 'text'],
    ['running_time', 'smallint'],
    ['distributor', 'text'],
    ['source', 'text'],
    ['major_genre', 'text'],
    ['creative_type', 'text'],
    ['director', 'text'],
    ['rotten_tomatoes_rating', 'smallint'],
    ['imdb_rating', 'numeric(3,1)'],
    ['imdb_votes', 'integer'],
  ],
  key: ['id'],
  select: `SELECT row_number() OVER (), "Title"->>'$', * EXCLUDE ("Title", "Release Date", "MPAA Rating", "Running Time min", "Distributor",
      "Source", "Major Genre", "Creative Type", "Director", "Rotten Tomatoes Rating", "IMDB Rating", "IMDB Votes"),
      strptime("Release Date", '%b %d %Y')::DATE, "MPAA Rating", "Running Time min", "Distributor", "Source", "Major Genre",
      "Creative Type", "Director", "Rotten Tomatoes Rating", "IMDB Rating", "IMDB Votes" FROM ${json('movies.json')}`,
  weight: 6,
  updates: [
    'worldwide_gross = worldwide_gross + 9007199254740993',
    'director = NULL',
    `director = ''`,
    `title = title || ' "II", \\ é 🎬' || chr(10) || chr(9)`,
    'imdb_rating = 9.9',
  ],
  newKey: '3201 + n',
}

const zipcodes: DemoTable = {
  name: 'zipcodes',
  columns: [
    ['zip_code', 'text'],
    ['latitude', 'double precision'],
    ['longitude', 'double precision'],
    ['city', 'text'],
    ['state', 'char(2)'],
    ['county', 'text'],
  ],
  key: ['zip_code'],
  select: `SELECT * FROM ${csv('zipcodes.csv', ', all_varchar = true')}`,
  weight: 8,
  updates: ['latitude = latitude + 0.1', 'county = NULL', `county = ''`, 'county = city', 'longitude = -longitude'],
  newKey: `t.zip_code || '+' || n`,
}

const airports: DemoTable = {
  name: 'airports',
  columns: [
    ['iata', 'text'],
    ['name', 'text'],
    ['city', 'text'],
    ['state', 'text'],
    ['country', 'text'],
    ['latitude', 'double precision'],
    ['longitude', 'double precision'],
  ],
  key: ['iata'],
  select: `SELECT * FROM ${csv('airports.csv', ', all_varchar = true')}`,
  weight: 5,
  updates: ['latitude = -latitude', 'city = NULL', 'city = state', `name = name || '’'`],
  newKey: `t.iata || '-' || n`,
}

const species: DemoTable = {
  name: 'species',
  columns: [
    ['county_id', 'integer'],
    ['item_id', 'text'],
    ['common_name', 'text'],
    ['scientific_name', 'text'],
    ['gap_species_code', 'text'],
    ['habitat_yearround_pct', 'real'],
  ],
  key: ['county_id', 'item_id'],
  select: `SELECT county_id, item_id, common_name, scientific_name, gap_species_code, habitat_yearround_pct FROM ${csv('species.csv', ', all_varchar = true')}`,
  weight: 6,
  updates: [
    'habitat_yearround_pct = habitat_yearround_pct * 1.01',
    'habitat_yearround_pct = NULL',
    'habitat_yearround_pct = 0.1',
    'common_name = upper(common_name)',
  ],
  newKey: '100000 + n',
}

const football: DemoTable = {
  name: 'football',
  columns: [
    ['match_date', 'date'],
    ['home_team', 'text'],
    ['away_team', 'text'],
    ['division', 'text'],
    ['home_score', 'smallint'],
    ['away_score', 'smallint'],
  ],
  key: ['match_date', 'home_team', 'away_team'],
  select: `SELECT date, home_team, away_team, division, home_score, away_score FROM ${json('football.json')}`,
  weight: 5,
  updates: ['home_score = home_score + 1', 'away_score = NULL', 'home_score = 0, away_score = 0'],
  newKey: `date '2100-01-01' + n::integer`,
}

const prices: DemoTable = {
  name: 'sp500',
  columns: [
    ['day', 'date'],
    ['open', 'numeric'],
    ['high', 'numeric'],
    ['low', 'numeric'],
    ['close', 'numeric(20,6)'],
    ['adjclose', 'numeric(20,6)'],
    ['volume', 'bigint'],
  ],
  key: ['day'],
  select: `SELECT * FROM ${csv('sp500-2000.csv', ', all_varchar = true')}`,
  weight: 4,
  updates: [
    'volume = volume * 2 % 4611686018427387904',
    'close = close + 0.000001',
    'open = open + 0.0000000001',
    'high = NULL',
    'high = low',
  ],
  newKey: `date '2100-01-01' + n::integer`,
}

const disasters: DemoTable = {
  name: 'disasters',
  columns: [
    ['year', 'integer'],
    ['entity', 'text'],
    ['deaths', 'integer'],
  ],
  key: ['year', 'entity'],
  select: `SELECT "Year", "Entity", "Deaths" FROM ${csv('disasters.csv')}`,
  weight: 2,
  updates: ['deaths = deaths + 1', 'deaths = NULL', 'deaths = 0'],
  newKey: '3000 + n',
}

/** Texts and pictures that PostgreSQL keeps out of line: an update that leaves them alone does not send them. */
const documents: DemoTable = {
  name: 'documents',
  columns: [
    ['id', 'uuid'],
    ['title', 'text'],
    ['revision', 'integer'],
    ['body', 'text'],
    ['picture', 'bytea'],
    ['tags', 'text[]'],
    ['read_for', 'interval'],
    ['opens_at', 'time'],
  ],
  key: ['id'],
  // Digests make text that does not compress: 3 to 13 KB of body, 2.5 KB of picture.
  select: `SELECT md5('document ' || i)::UUID, 'Document ' || i, 1,
      (SELECT string_agg(sha256(i || ' ' || j), '' ORDER BY j) FROM range(50 + i % 150) AS r(j)),
      '\\x' || (SELECT string_agg(sha256(j || ' ' || i), '' ORDER BY j) FROM range(80) AS r(j)),
      CASE WHEN i % 7 = 0 THEN NULL ELSE '{"tag ' || i % 5 || '","a,b","say \\"hi\\"",NULL}' END,
      i || ' minutes', '08:00'::TIME + to_seconds(i * 7 % 36000)
    FROM range(800) AS d(i)`,
  afterLoad: ['ALTER TABLE documents ALTER body SET STORAGE EXTERNAL, ALTER picture SET STORAGE EXTERNAL'],
  weight: 10,
  updates: [
    'revision = revision + 1',
    `title = 'Document, revision ' || revision, revision = revision + 1`,
    `body = reverse(body), revision = revision + 1`,
    'picture = NULL',
    `tags = tags || 'new'::text`,
    'tags = NULL',
    `read_for = read_for + interval '1 month 3 days 00:00:01.5'`,
  ],
  newKey: `md5(t.id::text || n)::uuid`,
}

export const TABLES: readonly DemoTable[] = [
  flights,
  birdstrikes,
  earthquakes,
  movies,
  zipcodes,
  airports,
  species,
  football,
  prices,
  disasters,
  documents,
]

/** Where the copy keeps a table of PostgreSQL's schema `public`. */
export const TARGET_SCHEMA = 'public'
